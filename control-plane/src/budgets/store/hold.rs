use authguardian_proto::ids::{MachineId, TaskId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::task;
use crate::{
    budgets::{
        exchange::Exchange,
        hold::{AsOf, Awaited, Recall},
    },
    error::Result,
};

/// What is known of the memory of machines, and the newest hold.
#[derive(Debug, Default)]
pub(in crate::budgets) struct Recalls {
    /// `None`: no budget is held.
    pub(in crate::budgets) newest: Option<Recall>,
    /// Which machines have told all that they remember, since the hold that began then.
    pub(in crate::budgets) told: Vec<(MachineId, OffsetDateTime)>,
}

impl Recalls {
    /// What a machine is asked that has not told all since the newest hold.
    pub(in crate::budgets) fn asked(&self, exchange: &Exchange) -> Option<Recall> {
        let newest = self.newest?;
        let before = self
            .told
            .iter()
            .find(|(machine, _)| *machine == exchange.machine);
        let before = before.map(|(_, told)| *told);
        let told = before.max(exchange.memory.recalled);
        (told < Some(newest.since)).then_some(newest)
    }
}

/// Locks all budgets that are not closed, then all slices that are open: silent ones are
/// fenced without their budgets.
#[tracing::instrument(name = "db.budget.lock_all", skip_all)]
pub(in crate::budgets) async fn lock_all(connection: &mut PgConnection) -> Result<()> {
    sqlx::query!("SELECT FROM budget WHERE state < 2 ORDER BY task_id FOR NO KEY UPDATE")
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "SELECT FROM budget_slice WHERE NOT is_closed ORDER BY task_id, machine_id, epoch FOR NO KEY UPDATE"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Holds all budgets that are not closed; how many. What is open of them is of before a
/// restore.
#[tracing::instrument(name = "db.budget.hold_all", skip_all)]
pub(in crate::budgets) async fn hold_all(
    connection: &mut PgConnection,
    as_of: AsOf,
    now: OffsetDateTime,
) -> Result<u64> {
    let known = match as_of {
        AsOf::At(time) => Some(time),
        AsOf::Itself | AsOf::Unknown => None,
    };
    // in the order in which others lock them; what has a budget is no older than it, and no younger than
    // it says itself
    let held = sqlx::query!(
        "WITH locked AS MATERIALIZED (
             SELECT task_id FROM budget WHERE state < 2 ORDER BY task_id FOR NO KEY UPDATE
         ), itself AS (
             SELECT GREATEST(time_floor, (SELECT max(occurred_at) FROM budget_movement)) AS at FROM installation
         )
         UPDATE budget SET is_held = true, held_since = $1,
                held_as_of = LEAST($1, CASE WHEN is_held THEN held_as_of END,
                                   GREATEST(created_at, CASE WHEN NOT $3 THEN LEAST($2, itself.at) END))
         FROM locked, itself WHERE budget.task_id = locked.task_id",
        now,
        known,
        as_of == AsOf::Unknown,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE budget_slice AS slice SET is_restored = true
         FROM budget WHERE budget.task_id = slice.task_id AND budget.is_held AND NOT slice.is_closed"
    )
    .execute(connection)
    .await?;
    Ok(held.rows_affected())
}

/// What machines have told of their memory.
#[tracing::instrument(name = "db.budget_recall.read", skip_all)]
pub(in crate::budgets) async fn recalls(
    connection: &mut PgConnection,
    machines: &[MachineId],
) -> Result<Recalls> {
    let machines: Vec<Uuid> = machines.iter().map(|machine| machine.as_uuid()).collect();
    let rows = sqlx::query!(
        r#"SELECT hold.since AS "since?", hold.as_of AS "as_of?", recall.machine_id AS "machine_id?", recall.told AS "told?"
         FROM (SELECT max(held_since) AS since, min(held_as_of) AS as_of FROM budget WHERE is_held) AS hold
         LEFT JOIN budget_recall AS recall ON recall.machine_id = ANY ($1)"#,
        &machines,
    )
    .fetch_all(connection)
    .await?;
    let newest = rows.first().and_then(|row| row.since.zip(row.as_of));
    let told = rows.iter().filter_map(|row| row.machine_id.zip(row.told));
    Ok(Recalls {
        newest: newest.map(|(since, as_of)| Recall { since, as_of }),
        told: told
            .map(|(machine, told)| (MachineId::from_uuid(machine), told))
            .collect(),
    })
}

/// Notes that machines have told all that they remember: which, since which hold, and how
/// far they remember.
#[tracing::instrument(name = "db.budget_recall.note", skip_all)]
pub(in crate::budgets) async fn note_recalls(
    connection: &mut PgConnection,
    recalled: &[(MachineId, OffsetDateTime, OffsetDateTime)],
) -> Result<()> {
    let machines: Vec<Uuid> = recalled
        .iter()
        .map(|(machine, ..)| machine.as_uuid())
        .collect();
    let told: Vec<OffsetDateTime> = recalled.iter().map(|(_, told, _)| *told).collect();
    let since: Vec<OffsetDateTime> = recalled.iter().map(|(.., since)| *since).collect();
    sqlx::query!(
        "INSERT INTO budget_recall (machine_id, told, remembers_since)
         SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS said (machine_id, told, remembers_since)
         ORDER BY machine_id
         ON CONFLICT (machine_id) DO UPDATE SET told = excluded.told, remembers_since = excluded.remembers_since",
        &machines,
        &told,
        &since,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes an operator's word for what a machine has spent of a budget in a hold.
#[tracing::instrument(name = "db.budget_hold_word.note", skip_all)]
pub(in crate::budgets) async fn note_word(
    connection: &mut PgConnection,
    task: &TaskId,
    machine: MachineId,
    held_since: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO budget_hold_word (task_id, machine_id, held_since) VALUES ($1, $2, $3)
         ON CONFLICT (task_id, machine_id) DO UPDATE SET held_since = excluded.held_since",
        task.as_str(),
        machine.as_uuid(),
        held_since,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Machines that the hold of a budget waits for.
#[tracing::instrument(name = "db.budget_awaited.list", skip_all)]
pub(in crate::budgets) async fn awaited(
    connection: &mut PgConnection,
    task: &TaskId,
) -> Result<Vec<Awaited>> {
    let rows = sqlx::query!(
        r#"SELECT DISTINCT machine_id AS "machine_id!", remembers_since FROM budget_awaited
         WHERE task_id = $1 ORDER BY machine_id LIMIT 1000"#,
        task.as_str(),
    )
    .fetch_all(connection)
    .await?;
    let rows = rows.into_iter();
    Ok(rows
        .map(|row| Awaited {
            machine: MachineId::from_uuid(row.machine_id),
            remembers_since: row.remembers_since,
        })
        .collect())
}

/// Held budgets that wait for no machine, and for no budget below them; only this one where
/// it is named.
#[tracing::instrument(name = "db.budget.unawaited", skip_all)]
pub(in crate::budgets) async fn unawaited(
    connection: &mut PgConnection,
    only: Option<&TaskId>,
    limit: i64,
) -> Result<Vec<TaskId>> {
    let rows = sqlx::query_scalar!(
        "SELECT task_id FROM budget
         WHERE is_held AND ($1::text IS NULL OR task_id = $1)
           AND NOT EXISTS (SELECT FROM budget_awaited AS awaited WHERE awaited.task_id = budget.task_id)
           AND NOT EXISTS (SELECT FROM budget AS child WHERE child.parent = budget.task_id AND child.is_held)
         ORDER BY task_id LIMIT $2",
        only.map(TaskId::as_str),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|text| task(text)).collect()
}
