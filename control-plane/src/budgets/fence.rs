//! Machines that are silent: they stop by themselves when their leases end, and what they
//! hold counts as spent until they are heard, or an operator settles.

use super::{Budgets, news::Act, store};
use crate::{
    audit::{self, Context, Entry},
    error::Result,
    events::{self, Stream},
};

/// Most slices that are fenced in one activation.
const LIMIT: i64 = 1000;

/// Most rows that are forgotten in one activation.
const FORGOTTEN: i64 = 5000;

impl Budgets {
    /// Notes slices of which nothing was heard until their leases had ended; how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn fence_silent(&self) -> Result<u64> {
        let mut tx = self.db.begin().await?;
        let fenced = store::fence(&mut tx, self.settings.lease, LIMIT).await?;
        if fenced.is_empty() {
            return Ok(0);
        }
        let (mut entries, mut changes) = (Vec::new(), Vec::new());
        let holding = fenced
            .iter()
            .filter(|(_, held)| held.slice.outstanding() > 0);
        for (task, held) in holding {
            let (machine, outstanding) = (held.machine, held.slice.outstanding());
            tracing::warn!(%task, %machine, outstanding, "a silent machine's slice counts as spent");
            let act = Act::Fence(machine);
            let subject = format!("{task} {machine}");
            entries.push(Entry::ok(Context::system(), act.action(), subject));
            changes.push(act.change(task));
        }
        let now = self.ambient.clock.now();
        audit::append(&mut tx, now, &entries).await?;
        events::append(&mut tx, Stream::Budgets, now, &changes).await?;
        self.db.commit(tx).await?;
        Ok(fenced.len() as u64)
    }

    /// Forgets movements and closed slices that are older than they are kept for; how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_history(&self) -> Result<u64> {
        let before = self.ambient.clock.now() - self.settings.history;
        let mut tx = self.db.begin().await?;
        let forgotten = store::forget_movements(&mut tx, before, FORGOTTEN).await?
            + store::forget_slices(&mut tx, before, FORGOTTEN).await?;
        self.db.commit(tx).await?;
        Ok(forgotten)
    }
}
