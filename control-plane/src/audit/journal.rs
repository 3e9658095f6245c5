//! The journals of edges: each batch of one is written once, however often it is sent.

use authguardian_proto::ids::MachineId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::store::journal as store;
use crate::error::Result;

/// The place of a batch in the journal of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Made by the edge; it may begin another journal at any time.
    pub journal_id: Uuid,
    /// 1 or more; grows, not by one always.
    pub sequence: i64,
}

/// Takes a place for the batch that the same transaction appends, unless it or a higher one
/// is taken: then the highest that is.
///
/// # Errors
/// When the database refuses.
pub async fn take(
    connection: &mut PgConnection,
    machine: MachineId,
    place: Place,
    now: OffsetDateTime,
) -> Result<Option<i64>> {
    if store::advance(connection, machine, place, now).await? {
        return Ok(None);
    }
    store::written(connection, machine, place).await.map(Some)
}
