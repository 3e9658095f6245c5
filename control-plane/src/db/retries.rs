//! Transactions that are run again.

use std::time::Duration;

use super::constraint::{database_error, is_transient};
use crate::error::{Error, Result};

/// How often one that met a deadlock or lock timeout is run again whole.
const MOST: u32 = 3;

/// How often a transaction was run again whole.
#[derive(Debug, Default)]
pub struct Retries(u32);

impl Retries {
    /// Waits for a moment before the transaction is run again, where that [may
    /// succeed](is_transient) and it was not too often.
    ///
    /// # Errors
    /// This one, where it is not to be run again.
    pub async fn after(&mut self, error: Error) -> Result<()> {
        if self.0 == MOST || !database_error(&error).is_some_and(is_transient) {
            return Err(error);
        }
        self.0 += 1;
        tokio::time::sleep(Duration::from_millis(5 << self.0)).await;
        Ok(())
    }
}
