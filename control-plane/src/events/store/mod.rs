//! All SQL of the change streams.

pub(super) mod installation;
pub(super) mod position;

use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;

use crate::{
    error::{Error, Result},
    events::{BoardHeads, Change, ChangeBody, Ends, Position, Stream},
};

/// A stream's ends.
#[derive(Debug, Clone, Copy)]
pub(in crate::events) struct Head {
    pub(in crate::events) stream: Stream,
    pub(in crate::events) position: Position,
    /// Changes up to here are gone.
    pub(in crate::events) floor: i64,
}

/// Has this transaction's commit wait for its own disk only.
pub(in crate::events) async fn commit_locally(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SET LOCAL synchronous_commit TO local")
        .execute(connection)
        .await
        .map(drop)
}

pub(in crate::events) async fn notify(
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
pub(in crate::events) async fn backend(connection: &mut PgConnection) -> sqlx::Result<u32> {
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(connection)
        .await?;
    Ok(backend.unsigned_abs())
}

/// How many connections of this name the database has.
pub(in crate::events) async fn listeners(
    connection: &mut PgConnection,
    name: &str,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = $1",
    )
    .bind(name)
    .fetch_one(connection)
    .await
}

#[tracing::instrument(name = "db.change.append", skip_all, fields(stream = stream.as_str()))]
pub(in crate::events) async fn append(
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
pub(in crate::events) async fn heads(connection: &mut PgConnection) -> Result<Vec<Head>> {
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
pub(in crate::events) async fn ends(connection: &mut PgConnection) -> Result<Ends> {
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
pub(in crate::events) async fn board_heads(connection: &mut PgConnection) -> Result<BoardHeads> {
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
pub(in crate::events) async fn read(
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

pub(in crate::events) async fn compact(
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
