//! All SQL of the change streams.

use std::collections::HashMap;

use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use super::{BoardHeads, Change, ChangeBody, Ends, Position, Stream};
use crate::error::{Error, Result};

/// A stream's ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) stream: Stream,
    pub(super) position: Position,
    /// Changes up to here are gone.
    pub(super) floor: i64,
}

/// Has this transaction's commit wait for its own disk only.
pub(super) async fn commit_locally(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SET LOCAL synchronous_commit TO local")
        .execute(connection)
        .await
        .map(drop)
}

pub(super) async fn notify(
    connection: &mut PgConnection,
    channel: &str,
    payload: &str,
) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(channel)
        .bind(payload)
        .execute(connection)
        .await
        .map(drop)
}

/// The server process of a connection, as notifications name it.
pub(super) async fn backend(connection: &mut PgConnection) -> sqlx::Result<u32> {
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await?;
    Ok(backend.unsigned_abs())
}

/// How many connections of this name the database has.
pub(super) async fn listeners(connection: &mut PgConnection, name: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1",
    )
    .bind(name)
    .fetch_one(connection)
    .await
}

#[tracing::instrument(name = "db.change.append", skip_all, fields(stream = stream.as_str()))]
pub(super) async fn append(
    connection: &mut PgConnection,
    stream: Stream,
    now: OffsetDateTime,
    bodies: &[ChangeBody],
) -> Result<Vec<Position>> {
    if bodies.is_empty() {
        return Ok(Vec::new());
    }
    let count = i64::try_from(bodies.len()).map_err(Error::internal)?;
    let bodies = bodies
        .iter()
        .map(serde_json::to_value)
        .collect::<serde_json::Result<Vec<_>>>()
        .map_err(Error::internal)?;
    let row = sqlx::query!(
        r#"WITH head AS (
               UPDATE stream_head SET revision = revision + $2 WHERE stream = $1 RETURNING revision
           ), appended AS (
               INSERT INTO change (stream, revision, occurred_at, body)
               SELECT $1, head.revision - $2 + item.number, $3, item.body
               FROM head, unnest($4::json[]) WITH ORDINALITY AS item (body, number)
           )
           SELECT head.revision AS "revision!", installation.epoch AS "epoch!" FROM head, installation"#,
        stream.as_str(),
        count,
        now,
        &bodies[..],
    )
    .fetch_one(connection)
    .await?;
    Ok((1..=count)
        .map(|number| Position {
            epoch: row.epoch,
            revision: row.revision - count + number,
        })
        .collect())
}

#[tracing::instrument(name = "db.change.heads", skip_all)]
pub(super) async fn heads(connection: &mut PgConnection) -> Result<Vec<Head>> {
    let rows = sqlx::query!(
        "SELECT stream, revision, floor, epoch FROM stream_head, installation ORDER BY stream"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            Some(Head {
                stream: Stream::parse(&row.stream)?,
                position: Position {
                    epoch: row.epoch,
                    revision: row.revision,
                },
                floor: row.floor,
            })
        })
        .collect())
}

/// In one statement, so that both are of the same instant.
#[tracing::instrument(name = "db.change.ends", skip_all)]
pub(super) async fn ends(connection: &mut PgConnection) -> Result<Ends> {
    let rows = sqlx::query!(
        "SELECT stream, revision, epoch, restored_epoch FROM stream_head, installation ORDER BY stream"
    )
    .fetch_all(connection)
    .await?;
    let restored_epoch = rows.first().map_or(0, |row| row.restored_epoch);
    let heads = rows.into_iter().filter_map(|row| {
        let (epoch, revision) = (row.epoch, row.revision);
        Some((Stream::parse(&row.stream)?, Position { epoch, revision }))
    });
    Ok(Ends {
        heads: heads.collect(),
        restored_epoch,
    })
}

#[tracing::instrument(name = "db.board.heads", skip_all)]
pub(super) async fn board_heads(connection: &mut PgConnection) -> Result<BoardHeads> {
    let rows = sqlx::query!("SELECT board, revision, epoch FROM board_head, installation")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let (epoch, revision) = (row.epoch, row.revision);
            Some((row.board.parse().ok()?, Position { epoch, revision }))
        })
        .collect())
}

/// Changes of one stream in `(after, up_to]`, at most `limit`, in order.
#[tracing::instrument(name = "db.change.read", skip_all, fields(stream = stream.as_str()))]
pub(super) async fn read(
    connection: &mut PgConnection,
    stream: Stream,
    epoch: i64,
    after: i64,
    up_to: i64,
    limit: i64,
) -> Result<Vec<Change>> {
    let rows = sqlx::query!(
        r#"SELECT revision, occurred_at, body AS "body: Json<ChangeBody>" FROM change
           WHERE stream = $1 AND revision > $2 AND revision <= $3
           ORDER BY revision LIMIT $4"#,
        stream.as_str(),
        after,
        up_to,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Change {
            stream,
            position: Position {
                epoch,
                revision: row.revision,
            },
            occurred_at: row.occurred_at,
            body: row.body.0,
        })
        .collect())
}

pub(super) async fn compact(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let mut dropped = 0;
    for stream in Stream::ALL {
        let row = sqlx::query!(
            r#"WITH gone AS (
                   DELETE FROM change WHERE (stream, revision) IN (
                       SELECT stream, revision FROM change
                       WHERE stream = $1 AND occurred_at < $2 ORDER BY revision LIMIT $3)
                   RETURNING revision
               ), floor AS (
                   UPDATE stream_head SET floor = greatest(floor, (SELECT max(revision) FROM gone))
                   WHERE stream = $1 AND EXISTS (SELECT FROM gone)
               )
               SELECT count(*) AS "count!" FROM gone"#,
            stream.as_str(),
            before,
            limit,
        )
        .fetch_one(&mut *connection)
        .await?;
        dropped += row.count.unsigned_abs();
    }
    Ok(dropped)
}

/// What the server is, and what the installation remembers of it.
pub(super) struct Server {
    pub(super) epoch: i64,
    pub(super) known_identifier: String,
    pub(super) known_timeline: i64,
    pub(super) identifier: String,
    pub(super) timeline: i64,
    /// A restore was begun here and not ended by a fence.
    pub(super) unfenced: bool,
}

/// The timeline is read from the name of the WAL file being written: the
/// control file still shows the old one until the first checkpoint after a
/// promotion.
pub(super) async fn server(connection: &mut PgConnection) -> Result<Server> {
    Ok(sqlx::query_as!(
        Server,
        r#"SELECT epoch, system_identifier AS known_identifier, timeline AS known_timeline,
                  (SELECT system_identifier::text FROM pg_control_system()) AS "identifier!",
                  ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint AS "timeline!",
                  to_regclass('unfenced_restore') IS NOT NULL AS "unfenced!"
           FROM installation"#
    )
    .fetch_one(connection)
    .await?)
}

/// Begins a new epoch unless another control plane has just done so, and notes
/// where each stream and each board is as it begins.
pub(super) async fn begin_epoch(connection: &mut PgConnection, server: &Server) -> Result<bool> {
    let begun = sqlx::query_scalar!(
        r#"WITH begun AS (
               UPDATE installation SET epoch = epoch + 1, system_identifier = $1, timeline = $2
               WHERE epoch = $3 RETURNING epoch
           ), boards AS (
               INSERT INTO board_epoch (board, epoch, revision)
               SELECT board, epoch, revision FROM board_head, begun
           ), streams AS (
               INSERT INTO stream_epoch (stream, epoch, revision)
               SELECT stream, epoch, revision FROM stream_head, begun
           )
           SELECT epoch FROM begun"#,
        server.identifier,
        server.timeline,
        server.epoch,
    )
    .fetch_optional(connection)
    .await?;
    Ok(begun.is_some())
}

/// As [`begin_epoch`], for a database that was restored: an epoch of at least
/// `lowest`, in which no position on a board goes on, since what the restore has
/// kept cannot be told from what it has undone.
pub(super) async fn begin_restored(
    connection: &mut PgConnection,
    server: &Server,
    lowest: i64,
    now: OffsetDateTime,
) -> Result<Option<i64>> {
    let begun = sqlx::query_scalar!(
        r#"WITH begun AS (
               UPDATE installation SET epoch = greatest(epoch + 1, $4), restored_epoch = greatest(epoch + 1, $4),
                      restored_at = $5, system_identifier = $1, timeline = $2
               WHERE epoch = $3 RETURNING epoch
           ), boards AS (
               INSERT INTO board_epoch (board, epoch, revision) SELECT board, epoch, 0 FROM board_head, begun
           ), streams AS (
               INSERT INTO stream_epoch (stream, epoch, revision)
               SELECT stream, epoch, revision FROM stream_head, begun
           )
           SELECT epoch FROM begun"#,
        server.identifier,
        server.timeline,
        server.epoch,
        lowest,
        now,
    )
    .fetch_optional(&mut *connection)
    .await?;
    sqlx::query("DROP TABLE IF EXISTS unfenced_restore")
        .execute(connection)
        .await?;
    Ok(begun)
}

/// Where a stream stands, for a position of an epoch.
pub(super) struct Stand {
    /// Its head.
    pub(super) epoch: i64,
    pub(super) revision: i64,
    /// Of the newest restore.
    pub(super) restored_epoch: i64,
    /// The lowest revision that an epoch since has begun at; `None`: none has, or
    /// it was not noted.
    pub(super) ended_at: Option<i64>,
}

pub(super) async fn stand(
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
pub(super) struct Made {
    pub(super) at: OffsetDateTime,
    /// Of the newest restore.
    pub(super) restored_epoch: i64,
}

/// Those changes that are there, by stream and revision.
pub(super) async fn made_at(
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

/// The database's epoch.
pub(super) async fn epoch(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar!("SELECT epoch FROM installation")
        .fetch_one(connection)
        .await?)
}

/// The epoch that the newest restore has begun; 0: there was none.
pub(super) async fn restored_epoch(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!("SELECT restored_epoch FROM installation")
            .fetch_one(connection)
            .await?,
    )
}

/// Inserts the installation's row unless it is there.
pub(super) async fn install(
    connection: &mut PgConnection,
    id: uuid::Uuid,
    trust_domain: &str,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO installation (id, trust_domain, epoch, system_identifier, timeline, time_floor, created_at)
         SELECT $1, $2, 1, system_identifier::text,
                ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint, $3, $3
         FROM pg_control_system()
         ON CONFLICT DO NOTHING",
        id,
        trust_domain,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn installation(
    connection: &mut PgConnection,
) -> Result<super::epoch::Installation> {
    Ok(sqlx::query_as!(
        super::epoch::Installation,
        "SELECT id, trust_domain, epoch, time_floor FROM installation"
    )
    .fetch_one(connection)
    .await?)
}

pub(super) async fn raise_time_floor(
    connection: &mut PgConnection,
    floor: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "UPDATE installation SET time_floor = greatest(time_floor, $1)",
        floor
    )
    .execute(connection)
    .await?;
    Ok(())
}
