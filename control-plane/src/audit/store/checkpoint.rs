//! Signed heads.

use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    super::log::{Head, Signed},
    log::root,
};
use crate::error::Result;

struct Row {
    size: i64,
    root: Vec<u8>,
    note: String,
    signed_at: OffsetDateTime,
}

impl Row {
    fn signed(self) -> Result<Signed> {
        Ok(Signed {
            head: Head {
                size: self.size,
                root: root(&self.root)?,
            },
            note: self.note,
            signed_at: self.signed_at,
        })
    }
}

/// Keeps a checkpoint, unless there is one of that size, or the installation is
/// in another epoch by now than when its head was sealed or read.
#[tracing::instrument(name = "db.audit_checkpoint.insert", skip_all)]
pub(in crate::audit) async fn insert(
    connection: &mut PgConnection,
    (log, epoch): (i64, i64),
    signed: &Signed,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO audit_checkpoint (log, size, root, note, signed_at)
         SELECT $1, $2, $3, $4, $5 FROM audit_log, installation
         WHERE audit_log.log = $1 AND audit_log.size >= $2 AND installation.epoch = $6
         ON CONFLICT DO NOTHING",
        log,
        signed.head.size,
        &signed.head.root.0[..],
        signed.note,
        signed.signed_at,
        epoch,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest one of a log.
pub(in crate::audit) async fn newest(
    connection: &mut PgConnection,
    log: i64,
) -> Result<Option<Signed>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE log = $1 ORDER BY size DESC LIMIT 1",
        log,
    )
    .fetch_optional(connection)
    .await?;
    row.map(Row::signed).transpose()
}

/// Those of a log in the order of their sizes, from one size on.
pub(in crate::audit) async fn from(
    connection: &mut PgConnection,
    log: i64,
    size: i64,
    limit: i64,
) -> Result<Vec<Signed>> {
    let rows = sqlx::query_as!(
        Row,
        "SELECT size, root, note, signed_at FROM audit_checkpoint WHERE log = $1 AND size >= $2
         ORDER BY size LIMIT $3",
        log,
        size,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(Row::signed).collect()
}

/// Drops checkpoints of before a time that have a later one in the same hour:
/// later ones prove all that they did. Returns how many.
pub(in crate::audit) async fn thin(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM audit_checkpoint WHERE (log, size) IN (
             SELECT log, size FROM (
                 SELECT log, size, signed_at, lead(signed_at) OVER (PARTITION BY log ORDER BY size) AS next
                 FROM audit_checkpoint WHERE signed_at < $1) AS old
             WHERE date_trunc('hour', next) = date_trunc('hour', signed_at) LIMIT $2)",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
