use std::collections::BTreeSet;

use authguardian_proto::ids::TaskId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{NO_WINDOW, amount, number, task, window};
use crate::{budgets::account::Account, error::Result};

/// An account, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::budgets) struct Kept {
    pub(in crate::budgets) task: TaskId,
    /// Of which window.
    pub(in crate::budgets) begins_at: Option<OffsetDateTime>,
    pub(in crate::budgets) ends_at: Option<OffsetDateTime>,
    pub(in crate::budgets) account: Account,
    /// How many movements there were.
    pub(in crate::budgets) movements: i64,
    /// The highest threshold that was told.
    pub(in crate::budgets) told_percent: u32,
}

struct AccountRow {
    task_id: String,
    begins_at: OffsetDateTime,
    ends_at: Option<OffsetDateTime>,
    total: i64,
    reported: i64,
    overdraft: i64,
    outstanding: i64,
    movements: i64,
    told_percent: i32,
}

impl AccountRow {
    fn kept(self) -> Result<Kept> {
        Ok(Kept {
            task: task(&self.task_id)?,
            begins_at: window(self.begins_at),
            ends_at: self.ends_at,
            account: Account {
                total: amount(self.total),
                reported: amount(self.reported),
                overdraft: amount(self.overdraft),
                outstanding: amount(self.outstanding),
            },
            movements: self.movements,
            told_percent: self.told_percent.unsigned_abs(),
        })
    }
}

/// The accounts of budgets: of windows that have not ended, and of these.
#[tracing::instrument(name = "db.budget_account.read", skip_all)]
pub(in crate::budgets) async fn accounts(
    connection: &mut PgConnection,
    tasks: &[String],
    windows: BTreeSet<(&TaskId, Option<OffsetDateTime>)>,
) -> Result<Vec<Kept>> {
    let of: Vec<String> = windows.iter().map(|(task, _)| task.to_string()).collect();
    let begins = windows.iter().map(|(_, at)| at.unwrap_or(NO_WINDOW));
    let begins: Vec<OffsetDateTime> = begins.collect();
    let rows = sqlx::query_as!(
        AccountRow,
        "SELECT task_id, begins_at, ends_at, total, reported, overdraft, outstanding, movements, told_percent
         FROM budget_account
         WHERE task_id = ANY ($1) AND (ends_at IS NULL OR ends_at > clock_timestamp())
            OR (task_id, begins_at) IN (SELECT * FROM unnest($2::text[], $3::timestamptz[]))",
        tasks,
        &of,
        &begins,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AccountRow::kept).collect()
}

/// The accounts of a budget from the oldest window on that has ended and left something; the
/// last one in any case.
#[tracing::instrument(name = "db.budget_account.left", skip_all)]
pub(in crate::budgets) async fn left(
    connection: &mut PgConnection,
    of: &TaskId,
) -> Result<Vec<Kept>> {
    let rows = sqlx::query_as!(
        AccountRow,
        "SELECT task_id, begins_at, ends_at, total, reported, overdraft, outstanding, movements, told_percent
         FROM budget_account
         WHERE task_id = $1 AND begins_at >= (
             SELECT min(begins_at) FROM budget_account AS one
             WHERE one.task_id = $1
               AND (ends_at <= clock_timestamp() AND overdraft = 0 AND total > reported + outstanding
                 OR begins_at = (SELECT max(begins_at) FROM budget_account AS last WHERE last.task_id = $1)))",
        of.as_str(),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(AccountRow::kept).collect()
}

/// Writes accounts as they are after their movements, which stand in the ledger already.
#[tracing::instrument(name = "db.budget_account.write", skip_all)]
pub(in crate::budgets) async fn write_accounts(
    connection: &mut PgConnection,
    accounts: &[Kept],
) -> Result<()> {
    let mut columns = Columns::default();
    for kept in accounts {
        columns.push(kept)?;
    }
    sqlx::query!(
        "INSERT INTO budget_account (task_id, begins_at, ends_at, total, reported, overdraft, outstanding, movements, told_percent)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[],
                              $7::bigint[], $8::bigint[], $9::integer[])
         ON CONFLICT (task_id, begins_at) DO UPDATE SET
             total = excluded.total, reported = excluded.reported, overdraft = excluded.overdraft,
             outstanding = excluded.outstanding, movements = excluded.movements, told_percent = excluded.told_percent",
        &columns.tasks,
        &columns.begins,
        &columns.ends as &[Option<OffsetDateTime>],
        &columns.totals,
        &columns.reported,
        &columns.overdrafts,
        &columns.outstanding,
        &columns.movements,
        &columns.told,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[derive(Default)]
struct Columns {
    tasks: Vec<String>,
    begins: Vec<OffsetDateTime>,
    ends: Vec<Option<OffsetDateTime>>,
    totals: Vec<i64>,
    reported: Vec<i64>,
    overdrafts: Vec<i64>,
    outstanding: Vec<i64>,
    movements: Vec<i64>,
    told: Vec<i32>,
}

impl Columns {
    fn push(&mut self, kept: &Kept) -> Result<()> {
        self.tasks.push(kept.task.to_string());
        self.begins.push(kept.begins_at.unwrap_or(NO_WINDOW));
        self.ends.push(kept.ends_at);
        self.totals.push(number(kept.account.total)?);
        self.reported.push(number(kept.account.reported)?);
        self.overdrafts.push(number(kept.account.overdraft)?);
        self.outstanding.push(number(kept.account.outstanding)?);
        self.movements.push(kept.movements);
        self.told
            .push(i32::try_from(kept.told_percent).unwrap_or(i32::MAX));
        Ok(())
    }
}
