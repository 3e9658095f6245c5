//! Following the log.

use super::{
    Record,
    store::{self, sealed::Cursor},
};
use crate::{db::Db, error::Result};

/// Most entries handed out at once.
const PAGE: i64 = 500;

/// A reader that moves along the logs in their order, up to the newest signed
/// head.
#[derive(Debug)]
pub struct Tail {
    db: Db,
    cursor: Cursor,
}

impl Tail {
    /// Begins so that the first reads give the newest `lines` entries.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn begin(db: Db, lines: u32) -> Result<Self> {
        let mut connection = db.read().await?;
        let cursor = store::sealed::newest(&mut connection, i64::from(lines)).await?;
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
        let (records, cursor) = store::sealed::after(&mut connection, self.cursor, PAGE).await?;
        if !records.is_empty() {
            self.db.barrier(&mut connection).await?;
        }
        self.cursor = cursor;
        Ok(records)
    }

    /// What is committed and not sealed yet, at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pending(&self, limit: u32) -> Result<Vec<Record>> {
        let mut connection = self.db.read().await?;
        let records = store::pending(&mut connection, i64::from(limit)).await?;
        if !records.is_empty() {
            self.db.barrier(&mut connection).await?;
        }
        Ok(records)
    }
}
