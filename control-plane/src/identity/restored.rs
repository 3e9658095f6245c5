//! What a restore of the database ends. Sessions of before end by themselves,
//! since each carries its epoch.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::store;
use crate::error::Result;

/// Locks what [`end_join_tokens`] ends, until the transaction ends.
///
/// # Errors
/// When the database refuses.
pub async fn lock_join_tokens(connection: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    store::lock_join_tokens(connection, now).await
}

/// Ends all join tokens: one that was used since the backup could be used once
/// more. Returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn end_join_tokens(connection: &mut PgConnection, now: OffsetDateTime) -> Result<u64> {
    store::end_join_tokens(connection, now).await
}
