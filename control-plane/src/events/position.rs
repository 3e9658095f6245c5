//! Whether a reader can go on from where it says that it was.

use authguardian_proto::reason::{Problem, Reason};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Position, Stream,
    publisher::{Publisher, not_yet},
    store,
};
use crate::error::{Error, Result};

/// The field that is at fault where a position is ahead of the database.
const AHEAD: &str = "after";

impl Publisher {
    /// Compares what a reader has seen with what is there: a database that was put
    /// back may have come as far since as it had been, with other changes.
    ///
    /// # Errors
    /// As for a position that is ahead: see [`is_ahead`].
    pub async fn compare(&self, seen: &[(Stream, Position, OffsetDateTime)]) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut connection = self.db.read().await?;
        let places: Vec<_> = seen
            .iter()
            .map(|(stream, at, _)| (*stream, at.revision))
            .collect();
        let made = store::position::made_at(&mut connection, &places).await?;
        let another = seen.iter().find(|(stream, at, occurred_at)| {
            let made = made.get(&(*stream, at.revision));
            made.is_some_and(|made| at.epoch >= made.restored_epoch && made.at != *occurred_at)
        });
        if let Some((stream, position, _)) = another {
            self.db.barrier(&mut connection).await?;
            return Err(other_change(*stream, *position));
        }
        Ok(())
    }

    /// Why a position cannot be gone on from that this process has not
    /// published: it was restored away, it is of an epoch that has ended, it is
    /// not published yet, or it is ahead of the database.
    pub(super) async fn judge(
        &self,
        connection: &mut PgConnection,
        stream: Stream,
        position: Position,
    ) -> Result<Error> {
        let stand = store::position::stand(connection, stream, position.epoch).await?;
        let head = Position {
            epoch: stand.epoch,
            revision: stand.revision,
        };
        if position.epoch < stand.restored_epoch {
            return Ok(compacted(stream));
        }
        let end = match stand.ended_at {
            Some(revision) => Position {
                epoch: position.epoch,
                revision,
            },
            None if position.epoch < head.epoch => return Ok(compacted(stream)),
            None => head,
        };
        if position > end {
            // a server that was succeeded is behind without having lost anything
            self.db.barrier(connection).await?;
            return Ok(ahead(stream, position, end));
        }
        Ok(if position.epoch == head.epoch {
            not_yet()
        } else {
            compacted(stream)
        })
    }
}

pub(super) fn compacted(stream: Stream) -> Error {
    Error::new(
        Reason::Compacted,
        format!(
            "the position in stream `{}` can no longer be served: list again and begin at the head",
            stream.as_str()
        ),
    )
}

/// What was published is not in the database.
fn ahead(stream: Stream, position: Position, end: Position) -> Error {
    let there = format!("is not in the database, where that ends at `{}`", text(end));
    put_back(stream, position, &there)
}

/// What was published is not what is in the database.
fn other_change(stream: Stream, position: Position) -> Error {
    put_back(stream, position, "is another change in the database")
}

fn put_back(stream: Stream, position: Position, there: &str) -> Error {
    let (stream, at) = (stream.as_str(), text(position));
    Problem::new(
        Reason::Unavailable,
        format!(
            "position `{at}` of stream `{stream}` was published once and {there}: it was put back without a fence; run \
             `control-plane restore --in-place`"
        ),
    )
    .at(AHEAD)
    .into()
}

fn text(position: Position) -> String {
    format!("{}.{}", position.epoch, position.revision)
}

/// Whether a subscription was refused since its position is ahead of the
/// database: what was published is lost, as it is where a database was put back
/// to an older state without a fence.
pub fn is_ahead(error: &Error) -> bool {
    error.reason() == Reason::Unavailable && error.problem().field.as_deref() == Some(AHEAD)
}
