//! Budgets of a restored database: it has forgotten what was given, spent and settled since
//! the backup was made, and nothing is given of them until machines have told that, or an
//! operator decides.

use authguardian_proto::ids::{MachineId, TaskId};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Budgets,
    budget::not_found,
    children,
    locked::{self, Locked},
    movement::Kind,
    news::Act,
    store,
};
use crate::{
    audit::{self, Context, Entry},
    error::Result,
    events::{self, Stream},
};

/// Most holds that are ended in one activation.
const LIMIT: i64 = 200;

/// Since when a budget gives nothing, and what is to be told before it does again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hold {
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The state of which time was restored: what came later may be forgotten.
    #[serde(with = "time::serde::rfc3339")]
    pub as_of: OffsetDateTime,
    /// Whether it goes on.
    pub is_open: bool,
}

/// Of which time the state is that a restore has brought back, as far as anybody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsOf {
    /// Nothing was served since: the database's own time floor and newest movement tell.
    Itself,
    /// Somebody knows; but as it says itself where that is earlier.
    At(OffsetDateTime),
    /// Nobody knows, and it may have been served since: as old as each budget.
    Unknown,
}

/// What machines are asked that have not told all that they remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// When the newest hold began.
    pub since: OffsetDateTime,
    /// Slices that were over before are known.
    pub as_of: OffsetDateTime,
}

/// What a machine says of its memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Since when it remembers all of its slices, by our time; `None`: it does not say.
    pub since: Option<OffsetDateTime>,
    /// The [`Recall::since`] after which it has told all of them.
    pub recalled: Option<OffsetDateTime>,
}

/// A machine that a hold waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// Which.
    pub machine: MachineId,
    /// It has told all, and remembers no more than what was since then; `None`: it was not
    /// heard.
    pub remembers_since: Option<OffsetDateTime>,
}

/// Holds every budget that is not closed, as the database was restored from a backup; how
/// many. What machines hold of them by the restored database is to be given back once they
/// have told of it. A budget that is held already may have forgotten more: what was known of
/// that stays. Processes of edges that begin later have greater numbers than any that
/// the lost database gave out: the caller sees to that.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn hold_all(
    connection: &mut PgConnection,
    as_of: AsOf,
    now: OffsetDateTime,
) -> Result<u64> {
    store::hold_all(connection, as_of, now).await
}

/// Locks what there is now of what [`hold_all`] writes, until the transaction ends: budgets
/// before their slices, as exchanges do.
///
/// # Errors
/// When the database refuses.
pub(crate) async fn lock_all(connection: &mut PgConnection) -> Result<()> {
    store::lock_all(connection).await
}

impl Budgets {
    /// Ends the holds of budgets of which every machine has told; how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn release_held(&self) -> Result<u64> {
        let told = store::unawaited(&mut *self.db.read().await?, None, LIMIT).await?;
        let mut released = 0;
        for task in told {
            released += u64::from(self.release(&task).await?);
        }
        Ok(released)
    }

    async fn release(&self, task: &TaskId) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let mut locked = self.lock_with_parent(&mut tx, task).await?;
        if store::unawaited(&mut tx, Some(task), 1).await?.is_empty() {
            return Ok(false);
        }
        release(&mut locked, task)?;
        children::count(&mut locked, task)?;
        let reached = locked.write(&mut tx).await?;
        let (mut changes, mut entries) = locked::told(&reached);
        entries.push(Entry::ok(
            Context::system(),
            Act::Release.action(),
            task.to_string(),
        ));
        changes.push(Act::Release.change(task));
        let now = self.ambient.clock.now();
        audit::append(&mut tx, now, &entries).await?;
        events::append(&mut tx, Stream::Budgets, now, &changes).await?;
        self.db.commit(tx).await?;
        tracing::info!(%task, "machines have told what a restored database did not know of a budget: it is held no more");
        Ok(true)
    }
}

/// Ends the hold of a budget that is locked, with its parent: what machines have told covers
/// each other as far as there is a total, and what a top-up has added that was forgotten is
/// taken from the parent once more.
pub(super) fn release(locked: &mut Locked, task: &TaskId) -> Result<()> {
    let plan = locked.get_mut(task).ok_or_else(|| not_found(task))?;
    if !plan.budget.is_held() {
        return Ok(());
    }
    plan.release();
    let (missing, parent) = (plan.restored_overdraft(), plan.budget.terms.parent.clone());
    let Some(parent) = parent.and_then(|parent| locked.get_mut(&parent)) else {
        return Ok(());
    };
    let taken = missing.min(parent.present_account().left());
    if taken > 0 {
        parent.take_for_child(task, taken, Kind::ChildToppedUp);
        let plan = locked.get_mut(task).ok_or_else(|| not_found(task))?;
        plan.top_up(taken);
    }
    Ok(())
}
