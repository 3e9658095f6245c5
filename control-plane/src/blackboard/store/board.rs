//! Boards and their heads.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::{board::Level, ids::BoardName};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{board_name, count, stored, unreadable};
use crate::{
    blackboard::board::{Board, Terms},
    error::{Error, Result},
    events::Position,
};

struct Row {
    name: String,
    level: i16,
    readers: Vec<String>,
    writers: Vec<String>,
    min_trust: i32,
    requires_grant: bool,
    max_keys: i64,
    max_bytes: i64,
    default_ttl_seconds: i64,
    retention_seconds: i64,
    description: String,
    created_at: OffsetDateTime,
    revision: i64,
    floor: i64,
    collected: i64,
    keys: i64,
    bytes: i64,
    epoch: i64,
    /// The database's clock: one for all control planes.
    now: OffsetDateTime,
}

impl TryFrom<Row> for Board {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            name: board_name(&row.name)?,
            level: Level::from_number(row.level).ok_or_else(|| unreadable("board.level"))?,
            terms: Terms {
                readers: row.readers,
                writers: row.writers,
                min_trust: row.min_trust.unsigned_abs(), // a constraint keeps it positive
                requires_grant: row.requires_grant,
                max_keys: count(row.max_keys),
                max_bytes: count(row.max_bytes),
                default_ttl_seconds: count(row.default_ttl_seconds),
                retention_seconds: count(row.retention_seconds),
                description: row.description,
            },
            keys: count(row.keys),
            bytes: count(row.bytes),
            position: Position {
                epoch: row.epoch,
                revision: row.revision,
            },
            floor: row.floor,
            collected: row.collected,
            created_at: row.created_at,
        })
    }
}

/// Boards by name, with their heads locked in name order until the transaction
/// ends, and the database's time, where there are any; those that are not there
/// are left out.
#[tracing::instrument(name = "db.board.lock", skip_all)]
pub(in crate::blackboard) async fn lock_boards(
    connection: &mut PgConnection,
    names: BTreeSet<&BoardName>,
) -> Result<(BTreeMap<BoardName, Board>, Option<OffsetDateTime>)> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                default_ttl_seconds, retention_seconds, description, board.created_at,
                revision, floor, collected, keys, bytes, epoch, clock_timestamp() AS "now!"
         FROM board_head JOIN board ON name = board, installation
         WHERE board = ANY ($1) ORDER BY board FOR UPDATE OF board_head"#,
        &names,
    )
    .fetch_all(connection)
    .await?;
    let now = rows.last().map(|row| row.now);
    let boards = rows.into_iter().map(|row| {
        let board = Board::try_from(row)?;
        Ok((board.name.clone(), board))
    });
    let boards = boards.collect::<Result<_>>()?;
    Ok((boards, now))
}

/// Boards by name as they are; those that are not there are left out.
#[tracing::instrument(name = "db.board.read", skip_all)]
pub(in crate::blackboard) async fn boards(
    connection: &mut PgConnection,
    names: BTreeSet<&BoardName>,
) -> Result<BTreeMap<BoardName, Board>> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                default_ttl_seconds, retention_seconds, description, board.created_at,
                revision, floor, collected, keys, bytes, epoch, clock_timestamp() AS "now!"
         FROM board JOIN board_head ON name = board, installation
         WHERE name = ANY ($1)"#,
        &names,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let board = Board::try_from(row)?;
            Ok((board.name.clone(), board))
        })
        .collect()
}

/// Boards by name, after one (`None`: from the first).
pub(in crate::blackboard) async fn list_boards(
    connection: &mut PgConnection,
    after: Option<&BoardName>,
    limit: i64,
) -> Result<Vec<Board>> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                default_ttl_seconds, retention_seconds, description, board.created_at,
                revision, floor, collected, keys, bytes, epoch, clock_timestamp() AS "now!"
         FROM board JOIN board_head ON name = board, installation
         WHERE name > $1 ORDER BY name LIMIT $2"#,
        after.map_or("", BoardName::as_str),
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Board::try_from).collect()
}

/// Makes a board, unless there is one of its name; whether it did.
pub(in crate::blackboard) async fn insert_board(
    connection: &mut PgConnection,
    name: &BoardName,
    level: Level,
    terms: &Terms,
    now: OffsetDateTime,
) -> Result<bool> {
    let inserted = sqlx::query!(
        "WITH made AS (
             INSERT INTO board (name, level, readers, writers, min_trust, requires_grant, max_keys, max_bytes,
                                default_ttl_seconds, retention_seconds, description, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             ON CONFLICT DO NOTHING RETURNING name)
         INSERT INTO board_head (board, revision, floor, keys, bytes) SELECT name, 0, 0, 0, 0 FROM made",
        name.as_str(),
        level.number(),
        &terms.readers,
        &terms.writers,
        i32::try_from(terms.min_trust).map_err(Error::internal)?,
        terms.requires_grant,
        stored(terms.max_keys),
        stored(terms.max_bytes),
        stored(terms.default_ttl_seconds),
        stored(terms.retention_seconds),
        terms.description,
        now,
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Puts other terms in force, under the lock of the board's head.
pub(in crate::blackboard) async fn update_board(
    connection: &mut PgConnection,
    name: &BoardName,
    terms: &Terms,
) -> Result<()> {
    sqlx::query!(
        "UPDATE board SET readers = $2, writers = $3, min_trust = $4, requires_grant = $5, max_keys = $6,
                max_bytes = $7, default_ttl_seconds = $8, retention_seconds = $9, description = $10
         WHERE name = $1",
        name.as_str(),
        &terms.readers,
        &terms.writers,
        i32::try_from(terms.min_trust).map_err(Error::internal)?,
        terms.requires_grant,
        stored(terms.max_keys),
        stored(terms.max_bytes),
        stored(terms.default_ttl_seconds),
        stored(terms.retention_seconds),
        terms.description,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How far back positions of an epoch go on, in the epochs since: the lowest
/// revision at which one of them began; `None`: the epoch is the newest.
pub(in crate::blackboard) async fn resumable_up_to(
    connection: &mut PgConnection,
    name: &BoardName,
    epoch: i64,
) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar!(
        "SELECT min(revision) FROM board_epoch WHERE board = $1 AND epoch > $2",
        name.as_str(),
        epoch,
    )
    .fetch_one(connection)
    .await?)
}
