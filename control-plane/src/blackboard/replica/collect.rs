//! Forgetting tombstones that every leased replica has heard of.

use authguardian_proto::board::Level;

use crate::{
    blackboard::{Blackboard, store},
    error::Result,
};

/// Most tombstones of a board that go at once.
const LIMIT: i64 = 5000;

impl Blackboard {
    /// Forgets the tombstones of keys without values that no leased replica has yet
    /// to hear of; how many. Replicas that come back after their lease read such a
    /// board anew.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn collect_tombstones(&self) -> Result<u64> {
        let now = self.ambient.clock.now();
        let mut after = None;
        let mut collected = 0;
        loop {
            let page = self.boards(after.as_ref(), 100).await?;
            let Some(last) = page.last() else {
                let mut tx = self.db.begin().await?;
                store::forget_replicas(&mut tx, now).await?;
                self.db.quorum.commit(tx).await?;
                return Ok(collected);
            };
            after = Some(last.name.clone());
            let eventual = page.iter().filter(|board| board.level == Level::Eventual);
            for board in eventual {
                let mut tx = self.db.begin().await?;
                let after = board.collected;
                let gone = store::collect(&mut tx, &board.name, after, now, LIMIT).await?;
                if let Some(gone) = gone {
                    self.db.quorum.commit(tx).await?;
                    collected += gone;
                }
            }
        }
    }
}
