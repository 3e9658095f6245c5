//! Change streams: what happened, in commit order, told to nobody before it
//! can no longer be undone.

pub mod body;
pub mod epoch;
mod position;
mod proof;
pub mod publisher;
mod store;
pub mod subscription;
mod wakeup;

pub use body::{ChangeBody, RevocationTarget, SuspensionTarget};
pub use position::is_ahead;
pub use publisher::{BoardHeads, Publisher};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
pub use subscription::{Message, Subscription};
use time::OffsetDateTime;

use crate::error::Result;

/// The streams. Ordered by name: that is the order in which a transaction
/// takes their heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Budgets.
    Budgets,
    /// Grants given, renewed, ended.
    Grants,
    /// Machines, API keys, signing keys.
    Identity,
    /// Policies and resource types.
    Policy,
    /// Agents.
    Registry,
}

impl Stream {
    /// All of them, in name order.
    pub const ALL: [Self; 5] = [
        Self::Budgets,
        Self::Grants,
        Self::Identity,
        Self::Policy,
        Self::Registry,
    ];

    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Budgets => "budgets",
            Self::Grants => "grants",
            Self::Identity => "identity",
            Self::Policy => "policy",
            Self::Registry => "registry",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.as_str() == text)
    }
}

/// A position in one stream. Ordered by epoch, then revision; but positions of
/// different epochs say nothing about each other's changes: a reader lists again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Counts promotions and restores of the database, from 1.
    pub epoch: i64,
    /// Counts changes from 1; 0 is "before the first".
    pub revision: i64,
}

/// One committed change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it happened.
    pub stream: Stream,
    /// Where it stands.
    pub position: Position,
    /// When.
    pub occurred_at: OffsetDateTime,
    /// What.
    pub body: ChangeBody,
}

/// Appends changes to a stream and returns their positions, in order. It locks
/// the stream's head until the transaction ends, so it comes **last** in a
/// transaction, and for several streams in [`Stream`] order.
///
/// # Errors
/// When the database refuses.
pub async fn append(
    connection: &mut PgConnection,
    stream: Stream,
    now: OffsetDateTime,
    bodies: &[ChangeBody],
) -> Result<Vec<Position>> {
    store::append(connection, stream, now, bodies).await
}

/// One reading of where the streams end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// The head of each.
    pub heads: Vec<(Stream, Position)>,
    /// The epoch that the newest restore has begun: nothing that was told in
    /// lower ones has to be there any more. 0: there was none.
    pub restored_epoch: i64,
}

/// Where the streams end in the database now; not proved.
///
/// # Errors
/// When the database refuses.
pub async fn ends(connection: &mut PgConnection) -> Result<Ends> {
    store::ends(connection).await
}

/// The heads of all streams as they are in the database now; not proved.
///
/// # Errors
/// When the database refuses.
pub async fn heads(connection: &mut PgConnection) -> Result<Vec<(Stream, Position)>> {
    let heads = store::heads(connection).await?;
    Ok(heads
        .into_iter()
        .map(|head| (head.stream, head.position))
        .collect())
}

/// Drops changes older than `before`, at most `limit`; readers from before
/// then get `COMPACTED`. Returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn compact(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    store::compact(connection, before, limit).await
}
