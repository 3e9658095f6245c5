//! All SQL of backups. What a database holds is asked of databases of earlier
//! schemas too, before they are migrated: so here, and not of the rooms whose
//! statements know the newest schema only.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::facts::{AuditHead, Facts};
use crate::{db, error::Result};

/// Begins a transaction of which all reads are of one instant, and gives the
/// name by which others read the same.
pub(super) async fn export_snapshot(connection: &mut PgConnection) -> Result<String> {
    // it stands still while the dump is made
    sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
        .execute(&mut *connection)
        .await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        .execute(&mut *connection)
        .await?;
    Ok(
        sqlx::query_scalar!(r#"SELECT pg_export_snapshot() AS "snapshot!""#)
            .fetch_one(connection)
            .await?,
    )
}

/// What the database holds; `None` before the first start.
pub(super) async fn facts(connection: &mut PgConnection) -> Result<Option<Facts>> {
    let schema_version = db::schema_version(&mut *connection).await?;
    if schema_version == 0 {
        return Ok(None);
    }
    let row = sqlx::query!("SELECT id, trust_domain, epoch FROM installation")
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let streams = sqlx::query!("SELECT stream, revision FROM stream_head")
        .fetch_all(&mut *connection)
        .await?;
    let streams: BTreeMap<String, i64> = streams
        .into_iter()
        .map(|row| (row.stream, row.revision))
        .collect();
    Ok(Some(Facts {
        installation_id: row.id,
        trust_domain: row.trust_domain,
        epoch: row.epoch,
        schema_version,
        streams,
        audit: audit_head(connection).await?,
    }))
}

async fn audit_head(connection: &mut PgConnection) -> Result<Option<AuditHead>> {
    let row = sqlx::query!(
        r#"SELECT origin, size, encode(root, 'hex') AS "root!",
                  (SELECT count(*) FROM audit_entry) AS "unsealed!",
                  (SELECT note FROM audit_checkpoint AS c WHERE c.log = l.log ORDER BY c.size DESC LIMIT 1)
                      AS checkpoint
           FROM audit_log AS l WHERE ended_at IS NULL"#
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| AuditHead {
        origin: row.origin,
        size: row.size,
        root: row.root,
        unsealed: row.unsealed,
        checkpoint: row.checkpoint,
    }))
}

/// PostgreSQL's version as one number, such as 150018.
pub(super) async fn server_version(connection: &mut PgConnection) -> Result<u32> {
    let number = sqlx::query_scalar!(
        r#"SELECT current_setting('server_version_num')::integer AS "number!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(number.unsigned_abs())
}

/// What is in a database besides PostgreSQL's own; the mark of a restore that
/// was not ended does not count.
pub(super) async fn something_in(connection: &mut PgConnection) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!(
        r#"SELECT format('%I.%I', n.nspname, c.relname) AS "name!"
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
           WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname <> 'unfenced_restore'
           UNION ALL
           SELECT format('%I.%I', n.nspname, p.proname)
           FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
           WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
           LIMIT 1"#
    )
    .fetch_optional(connection)
    .await?)
}

/// Marks a database as one that has to be fenced before it is served; the fence
/// takes the mark away, see `events::epoch`.
pub(super) async fn mark_unfenced(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("CREATE TABLE IF NOT EXISTS unfenced_restore ()")
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes it away where nothing was restored.
pub(super) async fn unmark(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("DROP TABLE IF EXISTS unfenced_restore")
        .execute(connection)
        .await?;
    Ok(())
}
