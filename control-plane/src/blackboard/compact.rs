//! Forgetting changes that are older than their boards keep them.

use super::{Blackboard, store};
use crate::error::Result;

/// Most revisions that are kept of a board, whatever it says.
const MOST: i64 = 1_000_000;

/// Most changes that go at once.
const LIMIT: i64 = 50_000;

impl Blackboard {
    /// Drops old changes of every board, one transaction for each; how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn compact(&self) -> Result<u64> {
        let mut after = None;
        let mut dropped = 0;
        loop {
            let page = self.boards(after.as_ref(), 100).await?;
            let Some(last) = page.last() else {
                return Ok(dropped);
            };
            after = Some(last.name.clone());
            for board in &page {
                let mut tx = self.db.begin().await?;
                let gone = store::compact(&mut tx, &board.name, MOST, LIMIT).await?;
                if gone > 0 {
                    self.db.quorum.commit(tx).await?;
                }
                dropped += gone;
            }
        }
    }
}
