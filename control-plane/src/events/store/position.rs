//! What the database has at a position.

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{error::Result, events::Stream};

/// Where a stream stands, for a position of an epoch.
pub(in crate::events) struct Stand {
    /// Its head.
    pub(in crate::events) epoch: i64,
    pub(in crate::events) revision: i64,
    /// Of the newest restore.
    pub(in crate::events) restored_epoch: i64,
    /// The lowest revision that an epoch since has begun at; `None`: none has, or
    /// it was not noted.
    pub(in crate::events) ended_at: Option<i64>,
}

pub(in crate::events) async fn stand(
    connection: &mut PgConnection,
    stream: Stream,
    epoch: i64,
) -> Result<Stand> {
    Ok(sqlx::query_as!(
        Stand,
        "SELECT epoch, revision, restored_epoch,
                (SELECT min(e.revision) FROM stream_epoch AS e WHERE e.stream = $1 AND e.epoch > $2) AS ended_at
         FROM stream_head, installation WHERE stream = $1",
        stream.as_str(),
        epoch,
    )
    .fetch_one(connection)
    .await?)
}

/// A change that is there.
pub(in crate::events) struct Made {
    pub(in crate::events) at: OffsetDateTime,
    /// Of the newest restore.
    pub(in crate::events) restored_epoch: i64,
}

/// Those changes that are there, by stream and revision.
pub(in crate::events) async fn made_at(
    connection: &mut PgConnection,
    places: &[(Stream, i64)],
) -> Result<HashMap<(Stream, i64), Made>> {
    let (streams, revisions): (Vec<String>, Vec<i64>) = places
        .iter()
        .map(|(stream, revision)| (stream.as_str().to_owned(), *revision))
        .unzip();
    let rows = sqlx::query!(
        "SELECT stream, revision, occurred_at, restored_epoch FROM installation, change
         JOIN unnest($1::text[], $2::bigint[]) AS seen (stream, revision) USING (stream, revision)",
        &streams,
        &revisions,
    )
    .fetch_all(connection)
    .await?;
    let made = rows.into_iter().filter_map(|row| {
        let place = (Stream::parse(&row.stream)?, row.revision);
        let made = Made {
            at: row.occurred_at,
            restored_epoch: row.restored_epoch,
        };
        Some((place, made))
    });
    Ok(made.collect())
}
