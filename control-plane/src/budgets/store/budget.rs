use std::collections::BTreeSet;

use authguardian_proto::ids::TaskId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{amount, number, task, unreadable};
use crate::{
    budgets::{
        budget::{Budget, State, Terms},
        hold::Hold,
        window::Window,
    },
    error::{Error, Result},
};

struct BudgetRow {
    task_id: String,
    unit: String,
    total: i64,
    parent: Option<String>,
    time_window: i16,
    carries_over: bool,
    thresholds: Vec<i32>,
    owner: String,
    spenders: Vec<String>,
    state: i16,
    created_at: OffsetDateTime,
    recalled_at: Option<OffsetDateTime>,
    counted: i64,
    is_released: bool,
    is_held: bool,
    held_since: Option<OffsetDateTime>,
    held_as_of: Option<OffsetDateTime>,
    now: OffsetDateTime,
}

impl TryFrom<BudgetRow> for Budget {
    type Error = Error;

    fn try_from(row: BudgetRow) -> Result<Self> {
        let window = usize::try_from(row.time_window).ok();
        let window = window.and_then(|at| Window::ALL.get(at).copied());
        let state = usize::try_from(row.state).ok();
        let state = state.and_then(|at| State::ALL.get(at).copied());
        Ok(Self {
            task: task(&row.task_id)?,
            terms: Terms {
                unit: row.unit,
                total: amount(row.total),
                parent: row.parent.as_deref().map(task).transpose()?,
                window: window.ok_or_else(|| unreadable("time_window"))?,
                carries_over: row.carries_over,
                thresholds: row
                    .thresholds
                    .iter()
                    .map(|percent| percent.unsigned_abs())
                    .collect(),
                owner: row.owner,
                spenders: row.spenders,
            },
            state: state.ok_or_else(|| unreadable("state"))?,
            created_at: row.created_at,
            recalled_at: row.recalled_at,
            counted: amount(row.counted),
            is_released: row.is_released,
            hold: row
                .held_since
                .zip(row.held_as_of)
                .map(|(since, as_of)| Hold {
                    since,
                    as_of,
                    is_open: row.is_held,
                }),
        })
    }
}

/// Budgets, locked in the order of their tasks until the transaction ends, and the
/// database's time since then; those that are not there are left out.
#[tracing::instrument(name = "db.budget.lock", skip_all)]
pub(in crate::budgets) async fn lock(
    connection: &mut PgConnection,
    tasks: &BTreeSet<TaskId>,
) -> Result<(Vec<Budget>, OffsetDateTime)> {
    let tasks: Vec<String> = tasks.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        BudgetRow,
        r#"WITH locked AS MATERIALIZED (
             SELECT * FROM budget WHERE task_id = ANY ($1) ORDER BY task_id FOR NO KEY UPDATE)
         SELECT task_id, unit, total, parent, time_window, carries_over, thresholds, owner, spenders, state,
                created_at, recalled_at, counted, is_released, is_held, held_since, held_as_of, clock_timestamp() AS "now!"
         FROM locked ORDER BY task_id"#,
        &tasks,
    )
    .fetch_all(connection)
    .await?;
    let now = rows.iter().map(|row| row.now).max();
    let budgets = rows
        .into_iter()
        .map(Budget::try_from)
        .collect::<Result<_>>()?;
    Ok((budgets, now.unwrap_or(OffsetDateTime::UNIX_EPOCH)))
}

/// Budgets by task, after one, and the database's time.
#[tracing::instrument(name = "db.budget.list", skip_all)]
pub(in crate::budgets) async fn list(
    connection: &mut PgConnection,
    after: Option<&TaskId>,
    limit: i64,
) -> Result<Vec<(Budget, OffsetDateTime)>> {
    let rows = sqlx::query_as!(
        BudgetRow,
        r#"SELECT task_id, unit, total, parent, time_window, carries_over, thresholds, owner, spenders, state,
                created_at, recalled_at, counted, is_released, is_held, held_since, held_as_of, clock_timestamp() AS "now!"
         FROM budget WHERE $1::text IS NULL OR task_id > $1 ORDER BY task_id LIMIT $2"#,
        after.map(TaskId::as_str),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(with_time).collect()
}

/// One budget, and the database's time.
#[tracing::instrument(name = "db.budget.read", skip_all)]
pub(in crate::budgets) async fn read(
    connection: &mut PgConnection,
    task: &TaskId,
) -> Result<Option<(Budget, OffsetDateTime)>> {
    let row = sqlx::query_as!(
        BudgetRow,
        r#"SELECT task_id, unit, total, parent, time_window, carries_over, thresholds, owner, spenders, state,
                created_at, recalled_at, counted, is_released, is_held, held_since, held_as_of, clock_timestamp() AS "now!"
         FROM budget WHERE task_id = $1"#,
        task.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    row.map(with_time).transpose()
}

fn with_time(row: BudgetRow) -> Result<(Budget, OffsetDateTime)> {
    let now = row.now;
    Ok((row.try_into()?, now))
}

/// Makes a budget; `None` where there is one of this task, else when it was made.
#[tracing::instrument(name = "db.budget.insert", skip_all)]
pub(in crate::budgets) async fn insert(
    connection: &mut PgConnection,
    task: &TaskId,
    terms: &Terms,
) -> Result<Option<OffsetDateTime>> {
    let window = Window::ALL
        .iter()
        .position(|window| *window == terms.window);
    let window = i16::try_from(window.unwrap_or_default()).map_err(Error::internal)?;
    let thresholds = terms
        .thresholds
        .iter()
        .map(|percent| i32::try_from(*percent));
    let thresholds = thresholds
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(Error::internal)?;
    let created_at = sqlx::query_scalar!(
        "INSERT INTO budget (task_id, unit, total, parent, time_window, carries_over, thresholds, owner, spenders, state, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, clock_timestamp())
         ON CONFLICT DO NOTHING RETURNING created_at",
        task.as_str(),
        terms.unit,
        number(terms.total)?,
        terms.parent.as_ref().map(TaskId::as_str),
        window,
        terms.carries_over,
        &thresholds,
        terms.owner,
        &terms.spenders,
    )
    .fetch_optional(connection)
    .await?;
    Ok(created_at)
}

/// Writes what can change of a budget.
#[tracing::instrument(name = "db.budget.update", skip_all)]
pub(in crate::budgets) async fn update(
    connection: &mut PgConnection,
    budget: &Budget,
) -> Result<()> {
    let state = State::ALL.iter().position(|state| *state == budget.state);
    let state = i16::try_from(state.unwrap_or_default()).map_err(Error::internal)?;
    sqlx::query!(
        "UPDATE budget SET total = $2, state = $3, recalled_at = $4, counted = $5, is_released = $6,
             is_held = $7, held_since = $8, held_as_of = $9
         WHERE task_id = $1",
        budget.task.as_str(),
        number(budget.terms.total)?,
        state,
        budget.recalled_at,
        number(budget.counted)?,
        budget.is_released,
        budget.is_held(),
        budget.hold.map(|hold| hold.since),
        budget.hold.map(|hold| hold.as_of),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A budget that is taken from this one and was not closed.
#[tracing::instrument(name = "db.budget.child", skip_all)]
pub(in crate::budgets) async fn open_child(
    connection: &mut PgConnection,
    parent: &TaskId,
) -> Result<Option<TaskId>> {
    let child = sqlx::query_scalar!(
        "SELECT task_id FROM budget WHERE parent = $1 AND state < 2 LIMIT 1",
        parent.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    child.as_deref().map(task).transpose()
}

/// Closed budgets whose parents have not counted all of them, with those parents.
#[tracing::instrument(name = "db.budget.uncounted", skip_all)]
pub(in crate::budgets) async fn uncounted(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(TaskId, TaskId)>> {
    let rows = sqlx::query!(
        r#"SELECT budget.task_id, budget.parent AS "parent!"
         FROM budget JOIN budget_account AS account USING (task_id)
         WHERE budget.parent IS NOT NULL AND budget.state = 2 AND NOT budget.is_held
           AND (account.reported > budget.counted OR NOT budget.is_released AND account.outstanding = 0)
         ORDER BY budget.task_id LIMIT $1"#,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| Ok((task(&row.task_id)?, task(&row.parent)?)))
        .collect()
}

/// Budgets that carry over, of which a window has ended that left something, or after the
/// last of which another has ended.
#[tracing::instrument(name = "db.budget.carrying", skip_all)]
pub(in crate::budgets) async fn carrying(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<TaskId>> {
    let rows = sqlx::query_scalar!(
        "SELECT task_id FROM budget
         WHERE carries_over AND state < 2 AND NOT is_held AND (
             EXISTS (SELECT FROM budget_account AS account
                     WHERE account.task_id = budget.task_id AND ends_at <= clock_timestamp()
                       AND overdraft = 0 AND account.total > reported + outstanding)
             OR clock_timestamp() >= (
                 SELECT max(ends_at) FROM budget_account AS account WHERE account.task_id = budget.task_id)
                 + CASE time_window WHEN 1 THEN interval '1 minute' WHEN 2 THEN interval '1 hour'
                                    WHEN 3 THEN interval '1 day' ELSE interval '1 month' END)
         ORDER BY task_id LIMIT $1",
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|text| task(text)).collect()
}
