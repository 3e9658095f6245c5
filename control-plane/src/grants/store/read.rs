//! Reading grants, predicate revocations counted in.

use std::collections::HashMap;

use authguardian_proto::{
    ids::{AgentId, GrantId, MachineId, ResourceTypeName},
    zone::Zone,
};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{unreadable, uuids};
use crate::{
    error::{Error, Result},
    events::Position,
    grants::{Filter, GrantRecord, GrantState, LiveGrant},
    policy::score::Score,
};

struct Row {
    id: Uuid,
    decision: String,
    agent_id: String,
    resource_type: String,
    scope: Option<String>,
    justification: String,
    machine_id: Uuid,
    api_key_id: Uuid,
    zone: String,
    score: i32,
    score_justification: i32,
    score_trust: i32,
    score_risk: i32,
    reasons: Vec<String>,
    detail: String,
    restrictions: Vec<String>,
    policy_version: i64,
    policy_ids: Vec<String>,
    facts: Json<serde_json::Value>,
    epoch: i64,
    revision: i64,
    max_staleness_ms: i32,
    issued_at: OffsetDateTime,
    renewed_at: Option<OffsetDateTime>,
    expires_at: Option<OffsetDateTime>,
    revoked_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for GrantRecord {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        Ok(Self {
            id: GrantId::from_uuid(row.id),
            granted: row.decision == "granted",
            agent_id: row
                .agent_id
                .parse()
                .map_err(|_| unreadable("permission_grant.agent_id"))?,
            resource_type: row
                .resource_type
                .parse()
                .map_err(|_| unreadable("permission_grant.resource_type"))?,
            scope: row.scope,
            justification: row.justification,
            machine_id: MachineId::from_uuid(row.machine_id),
            api_key_id: authguardian_proto::ids::ApiKeyId::from_uuid(row.api_key_id),
            zone: Zone::parse(&row.zone).ok_or_else(|| unreadable("permission_grant.zone"))?,
            score: Score {
                total: row.score.unsigned_abs(),
                justification: row.score_justification.unsigned_abs(),
                trust: row.score_trust.unsigned_abs(),
                risk: row.score_risk.unsigned_abs(),
            },
            reasons: row.reasons,
            detail: row.detail,
            restrictions: row.restrictions,
            policy_version: row.policy_version,
            policy_ids: row.policy_ids,
            facts: row.facts.0.to_string(),
            position: Position {
                epoch: row.epoch,
                revision: row.revision,
            },
            max_staleness_ms: row.max_staleness_ms,
            issued_at: row.issued_at,
            renewed_at: row.renewed_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
    }
}

/// Grants by id, with predicate revocations counted in.
#[tracing::instrument(name = "db.grant.by_ids", skip_all)]
pub(in crate::grants) async fn by_ids(
    connection: &mut PgConnection,
    ids: &[GrantId],
) -> Result<Vec<GrantRecord>> {
    let ids = uuids(ids);
    sqlx::query_as!(
        Row,
        r#"SELECT id, decision, agent_id, resource_type, scope, justification, machine_id, api_key_id, zone,
                  score, score_justification, score_trust, score_risk, reasons, detail, restrictions,
                  policy_version, policy_ids, facts AS "facts: Json<serde_json::Value>", epoch, revision,
                  max_staleness_ms, issued_at, renewed_at, expires_at,
                  coalesce(revoked_at, revoked_by_predicate(permission_grant)) AS revoked_at
           FROM permission_grant WHERE id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(GrantRecord::try_from)
    .collect()
}

/// Grants that match, newest first, before an id.
#[tracing::instrument(name = "db.grant.list", skip_all)]
pub(in crate::grants) async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    before: Option<GrantId>,
    limit: i64,
    now: OffsetDateTime,
) -> Result<Vec<GrantRecord>> {
    let agents: Option<Vec<String>> = filter
        .agents
        .as_ref()
        .map(|agents| agents.iter().map(ToString::to_string).collect());
    sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", decision AS "decision!", agent_id AS "agent_id!", resource_type AS "resource_type!",
                  scope, justification AS "justification!", machine_id AS "machine_id!", api_key_id AS "api_key_id!",
                  zone AS "zone!", score AS "score!", score_justification AS "score_justification!",
                  score_trust AS "score_trust!", score_risk AS "score_risk!", reasons AS "reasons!",
                  detail AS "detail!", restrictions AS "restrictions!", policy_version AS "policy_version!",
                  policy_ids AS "policy_ids!", facts AS "facts!: Json<serde_json::Value>", epoch AS "epoch!",
                  revision AS "revision!", max_staleness_ms AS "max_staleness_ms!", issued_at AS "issued_at!",
                  renewed_at, expires_at, ended_at AS revoked_at
           FROM (SELECT *, coalesce(revoked_at, revoked_by_predicate(permission_grant)) AS ended_at
                 FROM permission_grant) AS seen
           WHERE ($1::text[] IS NULL OR agent_id = ANY ($1))
             AND ($2::text IS NULL OR resource_type = $2)
             AND ($3::uuid IS NULL OR machine_id = $3)
             AND ($4::text IS NULL OR $4 = CASE
                     WHEN decision = 'denied' THEN 'denied'
                     WHEN ended_at IS NOT NULL THEN 'revoked'
                     WHEN expires_at > $7 THEN 'active'
                     ELSE 'expired' END)
             AND ($5::uuid IS NULL OR id < $5)
           ORDER BY id DESC LIMIT $6"#,
        agents.as_deref(),
        filter.resource_type.as_ref().map(ToString::to_string),
        filter.machine_id.map(MachineId::as_uuid),
        filter.state.map(GrantState::as_str),
        before.map(GrantId::as_uuid),
        limit,
        now,
    )
    .fetch_all(connection)
    .await?
    .into_iter()
    .map(GrantRecord::try_from)
    .collect()
}

/// Live grants of these agents on these resource types, the longest-lived first.
#[tracing::instrument(name = "db.grant.live", skip_all)]
pub(in crate::grants) async fn live(
    connection: &mut PgConnection,
    agents: &[AgentId],
    resource_types: &[ResourceTypeName],
    now: OffsetDateTime,
) -> Result<Vec<LiveGrant>> {
    let agents: Vec<String> = agents.iter().map(ToString::to_string).collect();
    let types: Vec<String> = resource_types.iter().map(ToString::to_string).collect();
    let rows = sqlx::query!(
        r#"SELECT id, agent_id, resource_type, scope FROM permission_grant
           WHERE agent_id = ANY ($1) AND resource_type = ANY ($2) AND decision = 'granted'
                 AND expires_at > $3 AND revoked_at IS NULL AND revoked_by_predicate(permission_grant) IS NULL
           ORDER BY expires_at DESC"#,
        &agents,
        &types,
        now,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(LiveGrant {
                id: GrantId::from_uuid(row.id),
                agent_id: row
                    .agent_id
                    .parse()
                    .map_err(|_| unreadable("permission_grant.agent_id"))?,
                resource_type: row
                    .resource_type
                    .parse()
                    .map_err(|_| unreadable("permission_grant.resource_type"))?,
                scope: row.scope,
            })
        })
        .collect()
}

/// What grants are now: only what a check needs.
#[tracing::instrument(name = "db.grant.states", skip_all)]
pub(in crate::grants) async fn states(
    connection: &mut PgConnection,
    ids: &[GrantId],
    now: OffsetDateTime,
) -> Result<HashMap<GrantId, GrantState>> {
    let ids = uuids(ids);
    let rows = sqlx::query!(
        r#"SELECT id, decision = 'granted' AS "granted!", expires_at > $2 AS live,
                  (revoked_at IS NOT NULL OR revoked_by_predicate(permission_grant) IS NOT NULL) AS "revoked!"
           FROM permission_grant WHERE id = ANY ($1)"#,
        &ids,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let state = match row.live {
                _ if !row.granted => GrantState::Denied,
                _ if row.revoked => GrantState::Revoked,
                Some(true) => GrantState::Active,
                _ => GrantState::Expired,
            };
            (GrantId::from_uuid(row.id), state)
        })
        .collect())
}
