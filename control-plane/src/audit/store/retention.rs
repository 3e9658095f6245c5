//! How long bodies are kept.

use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::error::Result;

/// Days; 0: for ever.
pub(in crate::audit) async fn days(connection: &mut PgConnection) -> Result<i32> {
    let days = sqlx::query_scalar!("SELECT days FROM audit_retention")
        .fetch_one(connection)
        .await?;
    Ok(days)
}

/// Sets it.
pub(in crate::audit) async fn set(connection: &mut PgConnection, days: i32) -> Result<()> {
    sqlx::query!("UPDATE audit_retention SET days = $1", days)
        .execute(connection)
        .await?;
    Ok(())
}

/// Drops the bodies of a log that stand before everything that is not older
/// than `before`, at most `limit` of them; returns the first index that keeps
/// its body, and how many were dropped.
#[tracing::instrument(name = "db.sealed_audit_entry.drop", skip_all)]
pub(in crate::audit) async fn drop_bodies(
    connection: &mut PgConnection,
    (log, from, below): (i64, i64, i64),
    before: OffsetDateTime,
    limit: i64,
) -> Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"WITH oldest AS (
               SELECT index, occurred_at FROM sealed_audit_entry
               WHERE log = $1 AND index >= $2 AND index < $3 ORDER BY index LIMIT $5
           ), gone AS (
               DELETE FROM sealed_audit_entry WHERE log = $1 AND index >= $2 AND index < coalesce(
                   (SELECT min(index) FROM oldest WHERE occurred_at >= $4),
                   (SELECT max(index) + 1 FROM oldest), $2)
               RETURNING index
           )
           SELECT coalesce(max(index) + 1, $2) AS "next!", count(*) AS "count!" FROM gone"#,
        log,
        from,
        below,
        before,
        limit,
    )
    .fetch_one(&mut *connection)
    .await?;
    if row.count > 0 {
        sqlx::query!(
            "UPDATE audit_log SET bodies_from = $2 WHERE log = $1",
            log,
            row.next
        )
        .execute(connection)
        .await?;
    }
    Ok((row.next, row.count))
}
