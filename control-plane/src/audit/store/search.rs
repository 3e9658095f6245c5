//! Finding entries.

use sqlx::PgConnection;

use super::row::Row;
use crate::{
    audit::{Record, search::Filter},
    error::Result,
};

/// Has each execution planned for its own values: most of the conditions are
/// absent most of the time.
async fn plan_each(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SET LOCAL plan_cache_mode TO force_custom_plan")
        .execute(connection)
        .await?;
    Ok(())
}

/// Entries that fit, sealed or not, newest first, older than `before` (a
/// sequence). Run in a transaction.
#[tracing::instrument(name = "db.sealed_audit_entry.search", skip_all)]
pub(in crate::audit) async fn search(
    connection: &mut PgConnection,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Record>> {
    plan_each(connection).await?;
    let agents = filter.agents();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT NULL::bigint AS log, NULL::text AS origin, NULL::bigint AS index, sequence AS "sequence!",
                  occurred_at AS "occurred_at!", caller AS "caller!", key_id, machine_id, peer_address,
                  zone, action AS "action!", subject AS "subject!", agent_id, outcome AS "outcome!",
                  reason, request_id, trace_id, count AS "count!"
           FROM audit_entry
           WHERE ($1::bigint IS NULL OR sequence < $1) AND ($2::text[] IS NULL OR agent_id = ANY ($2))
             AND ($3::uuid IS NULL OR machine_id = $3) AND ($4::text IS NULL OR action LIKE $4)
             AND ($5::text IS NULL OR outcome = $5) AND ($6::timestamptz IS NULL OR occurred_at >= $6)
             AND ($7::timestamptz IS NULL OR occurred_at < $7) AND ($8::text IS NULL OR subject = $8)
           UNION ALL
           (SELECT log, audit_log.origin, sealed.index, sealed.sequence, sealed.occurred_at, sealed.caller,
                   sealed.key_id, sealed.machine_id, sealed.peer_address, sealed.zone, sealed.action,
                   sealed.subject, sealed.agent_id, sealed.outcome, sealed.reason, sealed.request_id,
                   sealed.trace_id, sealed.count
            FROM sealed_audit_entry AS sealed JOIN audit_log USING (log)
            WHERE ($1::bigint IS NULL OR sequence < $1) AND ($2::text[] IS NULL OR agent_id = ANY ($2))
              AND ($3::uuid IS NULL OR machine_id = $3) AND ($4::text IS NULL OR action LIKE $4)
              AND ($5::text IS NULL OR outcome = $5) AND ($6::timestamptz IS NULL OR occurred_at >= $6)
              AND ($7::timestamptz IS NULL OR occurred_at < $7) AND ($8::text IS NULL OR subject = $8)
            ORDER BY sequence DESC LIMIT $9)
           ORDER BY 4 DESC LIMIT $9"#,
        before,
        agents.as_deref(),
        filter.machine_id.map(authguardian_proto::ids::MachineId::as_uuid),
        filter.action_pattern(),
        filter.outcome.map(super::super::Outcome::as_str),
        filter.since,
        filter.until,
        filter.subject,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(Record::from).collect())
}
