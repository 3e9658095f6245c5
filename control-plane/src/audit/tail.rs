//! Following the log.

use super::{
    Record,
    store::{self, Cursor},
};
use crate::{db::Db, error::Result};

/// Most entries handed out at once.
const PAGE: i64 = 500;

/// A reader that moves along the log in commit order.
#[derive(Debug)]
pub struct Tail {
    db: Db,
    cursor: Cursor,
}

impl Tail {
    /// Begins so that the first read gives the newest `lines` entries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn begin(db: Db, lines: u32) -> Result<Self> {
        let mut connection = db.read().await?;
        let cursor = store::newest(&mut connection, i64::from(lines)).await?;
        drop(connection);
        Ok(Self { db, cursor })
    }

    /// The next entries, none when there are none yet. Only what no failover
    /// can undo.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn read(&mut self) -> Result<Vec<Record>> {
        let mut connection = self.db.read().await?;
        let (records, cursor) = store::after(&mut connection, &self.cursor, PAGE).await?;
        if !records.is_empty() {
            self.db.barrier(&mut connection).await?;
        }
        self.cursor = cursor;
        Ok(records)
    }
}
