//! Ending what has come to its end, each by a revision of its own.

use std::collections::BTreeMap;

use authguardian_proto::{board::Key, ids::BoardName};

use super::{Act, Blackboard, Outcome, Who, store};
use crate::{audit::Context, error::Result};

/// Most keys that end in one activation.
const LIMIT: i64 = 5000;

impl Blackboard {
    /// Ends entries and locks whose time is over by the database's clock; how
    /// many. Several control planes may do so at the same time.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn sweep(&self) -> Result<u64> {
        let over = store::over(&mut *self.db.read().await?, LIMIT).await?;
        let mut boards: BTreeMap<BoardName, Vec<Key>> = BTreeMap::new();
        for (board, key) in over {
            boards.entry(board).or_default().push(key);
        }
        let mut ended = 0;
        for (board, keys) in boards {
            let act = Act::Expire { keys };
            let written = self
                .write(Context::system(), Who::System, board, act)
                .await?;
            if let Outcome::Expire { ended: some } = written.outcome {
                ended += some;
            }
        }
        Ok(ended)
    }
}
