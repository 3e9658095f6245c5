//! What a restore of the database leaves out.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::store;
use crate::error::Result;

/// More registrations than this are not made in a second.
const EACH_SECOND: i64 = 1 << 20;

/// Leaves out the numbers of registrations that the lost database can have
/// given since the backup: edges know them, and a later one has to be higher.
///
/// # Errors
/// When the database refuses.
pub async fn skip_lost(connection: &mut PgConnection, now: OffsetDateTime) -> Result<()> {
    let below = now.unix_timestamp().saturating_mul(EACH_SECOND);
    store::skip_epochs(connection, below).await
}
