//! The logs and their heads.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::super::log::{Head, Log};
use crate::error::{Error, Result};
use authguardian_proto::merkle::{EMPTY_HASH, Hash, hash_of};

/// What only one control plane does at a time.
#[derive(Debug, Clone, Copy)]
pub(in crate::audit) enum Alone {
    /// Sealing.
    Seals,
    /// Dropping bodies and checkpoints.
    Sweeps,
}

impl Alone {
    /// The number of its advisory lock; they are this project's own.
    const fn number(self) -> i64 {
        match self {
            Self::Seals => 0x0061_7564_6974,
            Self::Sweeps => 0x0061_7564_6975,
        }
    }
}

struct Row {
    log: i64,
    origin: String,
    epoch: i64,
    size: i64,
    root: Vec<u8>,
    bodies_from: i64,
    begun_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Log {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            number: row.log,
            origin: row.origin,
            epoch: row.epoch,
            head: Head {
                size: row.size,
                root: root(&row.root)?,
            },
            bodies_from: row.bodies_from,
            begun_at: row.begun_at,
            ended_at: row.ended_at,
        })
    }
}

/// All of them, oldest first.
#[tracing::instrument(name = "db.audit_log.list", skip_all)]
pub(in crate::audit) async fn all(connection: &mut PgConnection) -> Result<Vec<Log>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT log, origin, epoch, size, root, bodies_from, begun_at, ended_at FROM audit_log ORDER BY log"
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Log::try_from).collect()
}

/// The one that is written to; `None` before the first start.
pub(in crate::audit) async fn current(connection: &mut PgConnection) -> Result<Option<Log>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT log, origin, epoch, size, root, bodies_from, begun_at, ended_at
         FROM audit_log WHERE ended_at IS NULL"
    )
    .fetch_optional(connection)
    .await?;
    row.map(Log::try_from).transpose()
}

/// Held until the transaction ends; `false` when another control plane has it.
pub(in crate::audit) async fn try_lock(
    connection: &mut PgConnection,
    alone: Alone,
) -> Result<bool> {
    let locked = sqlx::query_scalar!(
        r#"SELECT pg_try_advisory_xact_lock($1) AS "locked!""#,
        alone.number()
    )
    .fetch_one(connection)
    .await?;
    Ok(locked)
}

/// The log that is written to, its row locked until the transaction ends, and
/// the epoch of the installation.
pub(in crate::audit) async fn lock_current(
    connection: &mut PgConnection,
) -> Result<Option<(Log, i64)>> {
    let row = sqlx::query!(
        r#"SELECT log, origin, audit_log.epoch, size, root, bodies_from, begun_at, ended_at,
                  installation.epoch AS current_epoch
           FROM audit_log, installation WHERE ended_at IS NULL FOR UPDATE OF audit_log"#
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let log = Log::try_from(Row {
        log: row.log,
        origin: row.origin,
        epoch: row.epoch,
        size: row.size,
        root: row.root,
        bodies_from: row.bodies_from,
        begun_at: row.begun_at,
        ended_at: row.ended_at,
    })?;
    Ok(Some((log, row.current_epoch)))
}

/// Begins a log; one that is written to has to be ended before.
pub(in crate::audit) async fn begin(
    connection: &mut PgConnection,
    origin: &str,
    epoch: i64,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit_log (log, origin, epoch, root, begun_at)
         SELECT coalesce(max(log), 0) + 1, $1, $2, $3, $4 FROM audit_log
         ON CONFLICT DO NOTHING",
        origin,
        epoch,
        &EMPTY_HASH.0[..],
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Ends the log that is written to.
pub(in crate::audit) async fn end(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "UPDATE audit_log SET ended_at = $1 WHERE ended_at IS NULL",
        now
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Moves the head of a log from where it was known to be.
pub(in crate::audit) async fn advance(
    connection: &mut PgConnection,
    log: &Log,
    head: Head,
) -> Result<()> {
    let moved = sqlx::query!(
        "UPDATE audit_log SET size = $2, root = $3
         WHERE log = $1 AND size = $4 AND root = $5 AND ended_at IS NULL",
        log.number,
        head.size,
        &head.root.0[..],
        log.head.size,
        &log.head.root.0[..],
    )
    .execute(connection)
    .await?;
    if moved.rows_affected() == 1 {
        Ok(())
    } else {
        Err(Error::internal(
            "the head of the audit log moved under its lock",
        ))
    }
}

pub(super) fn root(bytes: &[u8]) -> Result<Hash> {
    hash_of(bytes).ok_or_else(|| Error::internal("unreadable root in the audit log"))
}
