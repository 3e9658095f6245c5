//! The installation's row, and what the server is to it.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{error::Result, events::epoch::Installation};

/// What the server is, and what the installation remembers of it.
pub(in crate::events) struct Server {
    pub(in crate::events) epoch: i64,
    pub(in crate::events) known_identifier: String,
    pub(in crate::events) known_timeline: i64,
    pub(in crate::events) identifier: String,
    pub(in crate::events) timeline: i64,
    /// A restore was begun here and not ended by a fence.
    pub(in crate::events) unfenced: bool,
}

/// The timeline is read from the name of the WAL file being written: the
/// control file still shows the old one until the first checkpoint after a
/// promotion.
pub(in crate::events) async fn server(connection: &mut PgConnection) -> Result<Server> {
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
pub(in crate::events) async fn begin_epoch(
    connection: &mut PgConnection,
    server: &Server,
) -> Result<bool> {
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
pub(in crate::events) async fn begin_restored(
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
    if begun.is_some() {
        sqlx::query("DROP TABLE IF EXISTS unfenced_restore")
            .execute(connection)
            .await?;
    }
    Ok(begun)
}

/// The database's epoch.
pub(in crate::events) async fn epoch(connection: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar!("SELECT epoch FROM installation")
        .fetch_one(connection)
        .await?)
}

/// The epoch that the newest restore has begun; 0: there was none.
pub(in crate::events) async fn restored_epoch(connection: &mut PgConnection) -> Result<i64> {
    Ok(
        sqlx::query_scalar!("SELECT restored_epoch FROM installation")
            .fetch_one(connection)
            .await?,
    )
}

/// Inserts the installation's row unless it is there.
pub(in crate::events) async fn install(
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

pub(in crate::events) async fn installation(connection: &mut PgConnection) -> Result<Installation> {
    Ok(sqlx::query_as!(
        Installation,
        "SELECT id, trust_domain, epoch, time_floor FROM installation"
    )
    .fetch_one(connection)
    .await?)
}

pub(in crate::events) async fn raise_time_floor(
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
