//! Sessions that have ended before their time.

use authguardian_proto::ids::SessionId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::error::Result;

/// Ending twice keeps the first time.
pub(in crate::identity) async fn insert_ended_session(
    connection: &mut PgConnection,
    session: SessionId,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!(
        "INSERT INTO ended_session (id, ended_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        session.as_uuid(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn is_session_ended(
    connection: &mut PgConnection,
    session: SessionId,
) -> Result<bool> {
    let row = sqlx::query!(
        r#"SELECT EXISTS (SELECT FROM ended_session WHERE id = $1) AS "ended!""#,
        session.as_uuid(),
    )
    .fetch_one(connection)
    .await?;
    Ok(row.ended)
}

#[tracing::instrument(name = "db.ended_session.since", skip_all)]
pub(in crate::identity) async fn sessions_ended_since(
    connection: &mut PgConnection,
    since: OffsetDateTime,
) -> Result<Vec<(SessionId, OffsetDateTime)>> {
    let rows = sqlx::query!(
        "SELECT id, ended_at FROM ended_session WHERE ended_at >= $1",
        since,
    )
    .fetch_all(connection)
    .await?;
    let sessions = rows
        .into_iter()
        .map(|row| (SessionId::from_uuid(row.id), row.ended_at));
    Ok(sessions.collect())
}

pub(in crate::identity) async fn delete_ended_sessions(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM ended_session WHERE id IN (
             SELECT id FROM ended_session WHERE ended_at < $1 ORDER BY ended_at LIMIT $2)",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
