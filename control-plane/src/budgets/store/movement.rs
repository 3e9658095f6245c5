use authguardian_proto::ids::{MachineId, TaskId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{NO_WINDOW, amount, number, task, unreadable, window};
use crate::{
    budgets::{
        account::Account,
        movement::{Kind, Movement, Numbered},
    },
    error::{Error, Result},
};

/// Writes movements into their ledgers.
#[tracing::instrument(name = "db.budget_movement.append", skip_all)]
pub(in crate::budgets) async fn append_movements(
    connection: &mut PgConnection,
    movements: &[(&TaskId, i64, &Movement)],
    now: OffsetDateTime,
) -> Result<()> {
    let mut rows = Columns::default();
    for (task, number, movement) in movements {
        rows.push(task, *number, movement)?;
    }
    sqlx::query!(
        "INSERT INTO budget_movement (task_id, begins_at, number, kind, amount, machine_id, epoch, child,
             before_total, before_reported, before_overdraft, before_outstanding,
             total, reported, overdraft, outstanding, occurred_at)
         SELECT told.*, $17 FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::smallint[], $5::bigint[],
             $6::uuid[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
             $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[]) AS told",
        &rows.tasks,
        &rows.begins,
        &rows.numbers,
        &rows.kinds,
        &rows.amounts,
        &rows.machines as &[Option<Uuid>],
        &rows.epochs as &[Option<i64>],
        &rows.children as &[Option<String>],
        &rows.before.totals,
        &rows.before.reported,
        &rows.before.overdrafts,
        &rows.before.outstanding,
        &rows.after.totals,
        &rows.after.reported,
        &rows.after.overdrafts,
        &rows.after.outstanding,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(Default)]
struct Columns {
    tasks: Vec<String>,
    begins: Vec<OffsetDateTime>,
    numbers: Vec<i64>,
    kinds: Vec<i16>,
    amounts: Vec<i64>,
    machines: Vec<Option<Uuid>>,
    epochs: Vec<Option<i64>>,
    children: Vec<Option<String>>,
    before: Accounts,
    after: Accounts,
}

#[derive(Default)]
struct Accounts {
    totals: Vec<i64>,
    reported: Vec<i64>,
    overdrafts: Vec<i64>,
    outstanding: Vec<i64>,
}

impl Columns {
    fn push(&mut self, task: &TaskId, count: i64, movement: &Movement) -> Result<()> {
        let kind = Kind::ALL.iter().position(|kind| *kind == movement.kind);
        self.tasks.push(task.to_string());
        self.begins.push(movement.window.unwrap_or(NO_WINDOW));
        self.numbers.push(count);
        self.kinds
            .push(i16::try_from(kind.unwrap_or_default()).map_err(Error::internal)?);
        self.amounts.push(number(movement.amount)?);
        self.machines
            .push(movement.slice.map(|(machine, _)| machine.as_uuid()));
        self.epochs.push(movement.slice.map(|(_, epoch)| epoch));
        self.children
            .push(movement.child.as_ref().map(ToString::to_string));
        self.before.push(&movement.before)?;
        self.after.push(&movement.after)
    }
}

impl Accounts {
    fn push(&mut self, account: &Account) -> Result<()> {
        self.totals.push(number(account.total)?);
        self.reported.push(number(account.reported)?);
        self.overdrafts.push(number(account.overdraft)?);
        self.outstanding.push(number(account.outstanding)?);
        Ok(())
    }
}

/// Movements of a budget, the newest window and number first, after one of a window.
#[tracing::instrument(name = "db.budget_movement.list", skip_all)]
pub(in crate::budgets) async fn movements(
    connection: &mut PgConnection,
    of: &TaskId,
    before: Option<(Option<OffsetDateTime>, i64)>,
    limit: i64,
) -> Result<Vec<Numbered>> {
    let begins_at = before.map(|(begins_at, _)| begins_at.unwrap_or(NO_WINDOW));
    let rows = sqlx::query!(
        "SELECT begins_at, number, kind, amount, machine_id, epoch, child, before_total, before_reported,
                before_overdraft, before_outstanding, total, reported, overdraft, outstanding, occurred_at
         FROM budget_movement
         WHERE task_id = $1 AND ($2::timestamptz IS NULL OR (begins_at, number) < ($2, $3))
         ORDER BY begins_at DESC, number DESC LIMIT $4",
        of.as_str(),
        begins_at,
        before.map(|(_, number)| number),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = usize::try_from(row.kind).ok();
            let kind = kind.and_then(|at| Kind::ALL.get(at).copied());
            let slice = row.machine_id.zip(row.epoch);
            Ok(Numbered {
                number: row.number,
                movement: Movement {
                    kind: kind.ok_or_else(|| unreadable("kind"))?,
                    amount: amount(row.amount),
                    window: window(row.begins_at),
                    slice: slice.map(|(machine, epoch)| (MachineId::from_uuid(machine), epoch)),
                    child: row.child.as_deref().map(task).transpose()?,
                    before: Account {
                        total: amount(row.before_total),
                        reported: amount(row.before_reported),
                        overdraft: amount(row.before_overdraft),
                        outstanding: amount(row.before_outstanding),
                    },
                    after: Account {
                        total: amount(row.total),
                        reported: amount(row.reported),
                        overdraft: amount(row.overdraft),
                        outstanding: amount(row.outstanding),
                    },
                },
                occurred_at: row.occurred_at,
            })
        })
        .collect()
}

/// Forgets movements that are older, but for the last of each account: it is its sum.
#[tracing::instrument(name = "db.budget_movement.forget", skip_all)]
pub(in crate::budgets) async fn forget_movements(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM budget_movement WHERE ctid = ANY (ARRAY(
             SELECT one.ctid FROM budget_movement AS one
             WHERE one.occurred_at < $1
               AND EXISTS (SELECT FROM budget_account AS account
                           WHERE account.task_id = one.task_id AND account.begins_at = one.begins_at
                             AND account.movements > one.number)
             ORDER BY one.occurred_at LIMIT $2))",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
