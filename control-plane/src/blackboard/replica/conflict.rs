//! Keys with several values that have not seen each other.

use authguardian_proto::{
    board::{Key, Level},
    ids::BoardName,
    reason::Reason,
};

use super::Taken;
use crate::{
    blackboard::{Blackboard, store},
    error::{Error, Result},
};

impl Blackboard {
    /// Keys of an eventual board that begin so and have several values, each with
    /// all that is in it, after a key.
    ///
    /// # Errors
    /// `BOARD_NOT_FOUND`; `UNSUPPORTED_FOR_LEVEL` of a board whose writes are ordered.
    pub async fn conflicts(
        &self,
        name: &BoardName,
        prefix: &str,
        after: Option<&Key>,
        limit: i64,
    ) -> Result<Vec<(Key, Vec<Taken>)>> {
        let board = self.board(name).await?;
        if board.level != Level::Eventual {
            let detail = format!(
                "board `{name}` is `{}`: its writes are ordered, and none conflicts with another",
                board.level
            );
            return Err(Error::new(Reason::UnsupportedForLevel, detail));
        }
        let mut connection = self.db.read().await?;
        let after = after.map_or("", Key::as_str);
        let keys = store::conflicts(&mut connection, name, prefix, after, limit).await?;
        let mut conflicts = Vec::with_capacity(keys.len());
        for key in keys {
            let versions = store::versions_of(&mut connection, name, &key).await?;
            conflicts.push((key, versions));
        }
        Ok(conflicts)
    }
}
