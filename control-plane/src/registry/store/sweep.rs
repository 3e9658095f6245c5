//! What the sweep looks for.

use authguardian_proto::ids::AgentId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::error::{Error, Result};

/// Agents registered by keys, or through machines, that count no more.
#[tracing::instrument(name = "db.registration.orphaned", skip_all)]
pub(in crate::registry) async fn orphaned(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<AgentId>> {
    sqlx::query_scalar!(
        r#"SELECT r.agent_id AS "agent_id!" FROM api_key AS k
               JOIN agent_registration AS r ON r.api_key_id = k.id AND NOT r.ended
           WHERE k.revoked_at IS NOT NULL OR k.expires_at <= $1
           UNION
           SELECT r.agent_id FROM machine AS m
               JOIN agent_registration AS r ON r.machine_id = m.id AND NOT r.ended
           WHERE m.state = 'evicted'
           LIMIT $2"#,
        now,
        limit,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(|id| id.parse().map_err(Error::internal))
    .collect()
}

/// Forgets registrations gone since before a time, and leases of edges that
/// were not heard since and have none left; returns how many.
#[tracing::instrument(name = "db.registration.forget", skip_all)]
pub(in crate::registry) async fn forget(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    limit: i64,
) -> Result<u64> {
    let registrations = sqlx::query_scalar!(
        r#"WITH forgotten AS (
               DELETE FROM agent_registration WHERE agent_id IN (
                   SELECT agent_id FROM agent_registration
                   WHERE gone_at <= $1 ORDER BY gone_at LIMIT $2 FOR UPDATE SKIP LOCKED)
               RETURNING agent_id
           ), terms AS (
               DELETE FROM agent_term WHERE agent_id IN (SELECT agent_id FROM forgotten)
           )
           SELECT count(*) AS "count!" FROM forgotten"#,
        before,
        limit,
    )
    .fetch_one(&mut *connection)
    .await?;
    let edges = sqlx::query!(
        "DELETE FROM edge WHERE machine_id IN (
             SELECT machine_id FROM edge
             WHERE liveness = 2 AND seen_at <= $1
               AND NOT EXISTS (SELECT FROM agent_registration AS r WHERE r.machine_id = edge.machine_id)
             ORDER BY machine_id LIMIT $2 FOR UPDATE SKIP LOCKED)",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(registrations.unsigned_abs() + edges.rows_affected())
}
