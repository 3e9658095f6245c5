use std::collections::BTreeSet;

use authguardian_proto::ids::{MachineId, TaskId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{NO_WINDOW, amount, number, task, window};
use crate::{
    budgets::{account::Slice, plan::Held},
    error::Result,
};

/// Most slices that are told of one budget.
const MOST: i64 = 1000;

struct SliceRow {
    task_id: String,
    machine_id: Uuid,
    epoch: i64,
    begins_at: OffsetDateTime,
    journal: i64,
    granted: i64,
    returned: i64,
    reported: i64,
    reserved: i64,
    needed: i64,
    heard_at: OffsetDateTime,
    leased_until: OffsetDateTime,
    is_silent: bool,
    is_closed: bool,
    is_restored: bool,
}

impl SliceRow {
    fn held(self) -> Result<(TaskId, Held)> {
        let held = Held {
            machine: MachineId::from_uuid(self.machine_id),
            epoch: self.epoch,
            window: window(self.begins_at),
            journal: self.journal,
            slice: Slice {
                granted: amount(self.granted),
                returned: amount(self.returned),
                reported: amount(self.reported),
                is_closed: self.is_closed,
            },
            reserved: amount(self.reserved),
            needed: amount(self.needed),
            heard_at: self.heard_at,
            leased_until: self.leased_until,
            is_silent: self.is_silent,
            is_restored: self.is_restored,
        };
        Ok((task(&self.task_id)?, held))
    }
}

/// The slices of budgets that are open, those of these epochs, and the last that each of
/// these machines has had.
#[tracing::instrument(name = "db.budget_slice.read", skip_all)]
pub(in crate::budgets) async fn slices(
    connection: &mut PgConnection,
    tasks: &[String],
    named: &[(TaskId, MachineId, i64)],
) -> Result<Vec<(TaskId, Held)>> {
    let of: Vec<String> = named.iter().map(|(task, ..)| task.to_string()).collect();
    let machines: Vec<Uuid> = named
        .iter()
        .map(|(_, machine, _)| machine.as_uuid())
        .collect();
    let epochs: Vec<i64> = named.iter().map(|(.., epoch)| *epoch).collect();
    let rows = sqlx::query_as!(
        SliceRow,
        "WITH named AS (
             SELECT * FROM unnest($2::text[], $3::uuid[], $4::bigint[]) AS named (task_id, machine_id, epoch))
         SELECT task_id, machine_id, epoch, begins_at, journal, granted, returned, reported, reserved, needed,
                heard_at, leased_until, is_silent, is_closed, is_restored
         FROM budget_slice AS slice
         WHERE task_id = ANY ($1) AND NOT is_closed
            OR (task_id, machine_id, epoch) IN (SELECT * FROM named)
            OR (task_id, machine_id, epoch) IN (
                SELECT named.task_id, named.machine_id, last.epoch FROM named CROSS JOIN LATERAL (
                    SELECT one.epoch FROM budget_slice AS one
                    WHERE one.task_id = named.task_id AND one.machine_id = named.machine_id
                    ORDER BY one.epoch DESC LIMIT 1) AS last)
         ORDER BY task_id, machine_id, epoch",
        tasks,
        &of,
        &machines,
        &epochs,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SliceRow::held).collect()
}

/// The slices of a budget in one window, and whatever is open of others, by machine; without
/// those that never had anything. No more than [`MOST`] of them: the open before the closed,
/// of which the last heard come first.
#[tracing::instrument(name = "db.budget_slice.list", skip_all)]
pub(in crate::budgets) async fn slices_of(
    connection: &mut PgConnection,
    task: &TaskId,
    begins_at: Option<OffsetDateTime>,
) -> Result<Vec<Held>> {
    let rows = sqlx::query_as!(
        SliceRow,
        "SELECT task_id, machine_id, epoch, begins_at, journal, granted, returned, reported, reserved, needed,
                heard_at, leased_until, is_silent, is_closed, is_restored
         FROM budget_slice
         WHERE task_id = $1 AND (begins_at = $2 OR NOT is_closed) AND (granted > 0 OR reported > 0 OR NOT is_closed)
         ORDER BY is_closed, heard_at DESC LIMIT $3",
        task.as_str(),
        begins_at.unwrap_or(NO_WINDOW),
        MOST,
    )
    .fetch_all(connection)
    .await?;
    let held = rows.into_iter().map(|row| Ok(row.held()?.1));
    let mut held = held.collect::<Result<Vec<Held>>>()?;
    held.sort_by_key(|held| (held.machine, held.epoch));
    Ok(held)
}

/// The budgets of which machines have open slices.
#[tracing::instrument(name = "db.budget_slice.tasks", skip_all)]
pub(in crate::budgets) async fn tasks_of(
    connection: &mut PgConnection,
    machines: &[MachineId],
) -> Result<BTreeSet<TaskId>> {
    let machines: Vec<Uuid> = machines.iter().map(|machine| machine.as_uuid()).collect();
    let rows = sqlx::query_scalar!(
        "SELECT DISTINCT task_id FROM budget_slice WHERE machine_id = ANY ($1) AND NOT is_closed",
        &machines,
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|text| task(text)).collect()
}

/// Slices that were spent beyond what they had, by budget.
#[tracing::instrument(name = "db.budget_slice.overdrawn", skip_all)]
pub(in crate::budgets) async fn overdrawn(
    connection: &mut PgConnection,
    task: &TaskId,
    begins_at: Option<OffsetDateTime>,
) -> Result<Vec<(TaskId, MachineId, i64)>> {
    let rows = sqlx::query!(
        "SELECT machine_id, epoch FROM budget_slice
         WHERE task_id = $1 AND begins_at = $2 AND reported + returned > granted",
        task.as_str(),
        begins_at.unwrap_or(NO_WINDOW),
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| {
            (
                task.clone(),
                MachineId::from_uuid(row.machine_id),
                row.epoch,
            )
        })
        .collect())
}

/// Slices of which nothing was heard for so long, and whose leases have ended, now noted as
/// silent.
#[tracing::instrument(name = "db.budget_slice.fence", skip_all)]
pub(in crate::budgets) async fn fence(
    connection: &mut PgConnection,
    silence: time::Duration,
    limit: i64,
) -> Result<Vec<(TaskId, Held)>> {
    let rows = sqlx::query_as!(
        SliceRow,
        "UPDATE budget_slice SET is_silent = true
         WHERE (task_id, machine_id, epoch) IN (
             SELECT task_id, machine_id, epoch FROM budget_slice
             WHERE NOT is_closed AND NOT is_silent AND leased_until < clock_timestamp()
               AND heard_at < clock_timestamp() - make_interval(secs => $2)
             LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING task_id, machine_id, epoch, begins_at, journal, granted, returned, reported, reserved, needed,
                   heard_at, leased_until, is_silent, is_closed, is_restored",
        limit,
        silence.as_seconds_f64(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SliceRow::held).collect()
}

/// Writes slices as they are now.
#[tracing::instrument(name = "db.budget_slice.write", skip_all)]
pub(in crate::budgets) async fn write_slices(
    connection: &mut PgConnection,
    slices: &[(&TaskId, &Held)],
) -> Result<()> {
    let mut rows = Columns::default();
    for (task, held) in slices {
        rows.push(task, held)?;
    }
    sqlx::query!(
        "INSERT INTO budget_slice (task_id, machine_id, epoch, begins_at, journal, granted, returned, reported,
                                   reserved, needed, heard_at, leased_until, is_silent, is_closed, is_restored)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::bigint[],
                              $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[],
                              $12::timestamptz[], $13::boolean[], $14::boolean[], $15::boolean[])
         ON CONFLICT (task_id, machine_id, epoch) DO UPDATE SET
             journal = excluded.journal, granted = excluded.granted, returned = excluded.returned, reported = excluded.reported,
             reserved = excluded.reserved, needed = excluded.needed, heard_at = excluded.heard_at,
             leased_until = excluded.leased_until, is_silent = excluded.is_silent, is_closed = excluded.is_closed,
             is_restored = excluded.is_restored",
        &rows.tasks,
        &rows.machines,
        &rows.epochs,
        &rows.begins,
        &rows.journals,
        &rows.granted,
        &rows.returned,
        &rows.reported,
        &rows.reserved,
        &rows.needed,
        &rows.heard,
        &rows.leased,
        &rows.silent,
        &rows.closed,
        &rows.restored,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(Default)]
struct Columns {
    tasks: Vec<String>,
    machines: Vec<Uuid>,
    epochs: Vec<i64>,
    begins: Vec<OffsetDateTime>,
    journals: Vec<i64>,
    granted: Vec<i64>,
    returned: Vec<i64>,
    reported: Vec<i64>,
    reserved: Vec<i64>,
    needed: Vec<i64>,
    heard: Vec<OffsetDateTime>,
    leased: Vec<OffsetDateTime>,
    silent: Vec<bool>,
    closed: Vec<bool>,
    restored: Vec<bool>,
}

impl Columns {
    fn push(&mut self, task: &TaskId, held: &Held) -> Result<()> {
        self.tasks.push(task.to_string());
        self.machines.push(held.machine.as_uuid());
        self.epochs.push(held.epoch);
        self.begins.push(held.window.unwrap_or(NO_WINDOW));
        self.journals.push(held.journal);
        self.granted.push(number(held.slice.granted)?);
        self.returned.push(number(held.slice.returned)?);
        self.reported.push(number(held.slice.reported)?);
        self.reserved.push(number(held.reserved)?);
        self.needed.push(number(held.needed)?);
        self.heard.push(held.heard_at);
        self.leased.push(held.leased_until);
        self.silent.push(held.is_silent);
        self.closed.push(held.slice.is_closed);
        self.restored.push(held.is_restored);
        Ok(())
    }
}

/// Forgets closed slices of windows that are forgotten, but for each machine's last: epochs
/// go on from it.
#[tracing::instrument(name = "db.budget_slice.forget", skip_all)]
pub(in crate::budgets) async fn forget_slices(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM budget_slice WHERE ctid = ANY (ARRAY(
             SELECT one.ctid FROM budget_slice AS one
             WHERE one.is_closed AND one.heard_at < $1 AND one.begins_at <> $3
               AND EXISTS (SELECT FROM budget_slice AS later
                           WHERE later.task_id = one.task_id AND later.machine_id = one.machine_id AND later.epoch > one.epoch)
             LIMIT $2))",
        before,
        limit,
        NO_WINDOW,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
