//! All SQL of grants.

use std::collections::HashMap;

use authguardian_proto::{
    ids::{AgentId, GrantId, MachineId},
    zone::Zone,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Filter, GrantRecord, GrantState, Revoked, request::KeptOutcome};
use crate::{
    db::request::RequestKey,
    error::{Error, Result},
    events::{Position, RevocationTarget},
    policy::score::Score,
};

// --- request ids, by the batch

/// A request's key without its digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct KeyRef {
    principal: String,
    request_id: String,
}

impl KeyRef {
    pub(super) fn of(key: &RequestKey) -> Self {
        Self {
            principal: key.principal.clone(),
            request_id: key.request_id.to_string(),
        }
    }
}

/// Digest and outcome of requests that were served before.
type Kept<T> = HashMap<KeyRef, ([u8; 32], T)>;

pub(super) async fn kept_outcomes(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<KeptOutcome>> {
    kept(connection, keys).await
}

pub(super) async fn kept_revocations(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<Revoked>> {
    kept(connection, keys).await
}

/// All keys of a batch are of one method.
#[tracing::instrument(name = "db.request_outcome.read", skip_all)]
async fn kept<T: DeserializeOwned>(
    connection: &mut PgConnection,
    keys: &[&RequestKey],
) -> Result<Kept<T>> {
    let Some(method) = keys.first().map(|key| key.method) else {
        return Ok(HashMap::new());
    };
    let principals: Vec<String> = keys.iter().map(|key| key.principal.clone()).collect();
    let request_ids: Vec<String> = keys.iter().map(|key| key.request_id.to_string()).collect();
    let rows = sqlx::query!(
        r#"SELECT principal, request_id, digest, outcome AS "outcome: Json<serde_json::Value>"
           FROM request_outcome
           JOIN (SELECT DISTINCT * FROM unnest($2::text[], $3::text[])) AS wanted (principal, request_id)
                USING (principal, request_id)
           WHERE method = $1"#,
        method,
        &principals,
        &request_ids,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let digest = row
                .digest
                .try_into()
                .map_err(|_| unreadable("request_outcome.digest"))?;
            let outcome = serde_json::from_value(row.outcome.0).map_err(Error::internal)?;
            Ok((
                KeyRef {
                    principal: row.principal,
                    request_id: row.request_id,
                },
                (digest, outcome),
            ))
        })
        .collect()
}

/// Takes request ids; returns those taken now, with the grant that each stands
/// for. Of equal keys the first wins; one that another transaction is just
/// taking is waited for and left to it.
pub(super) async fn claim(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, KeptOutcome)],
    now: OffsetDateTime,
) -> Result<HashMap<KeyRef, GrantId>> {
    insert_outcomes(connection, claims, now)
        .await?
        .into_iter()
        .map(|(key, outcome)| {
            let outcome: KeptOutcome = serde_json::from_value(outcome).map_err(Error::internal)?;
            Ok((key, outcome.grant_id))
        })
        .collect()
}

pub(super) async fn claim_revocations(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, Revoked)],
    now: OffsetDateTime,
) -> Result<()> {
    insert_outcomes(connection, claims, now).await?;
    Ok(())
}

#[tracing::instrument(name = "db.request_outcome.claim", skip_all)]
async fn insert_outcomes<T: Serialize>(
    connection: &mut PgConnection,
    claims: &[(&RequestKey, T)],
    now: OffsetDateTime,
) -> Result<Vec<(KeyRef, serde_json::Value)>> {
    let Some(method) = claims.first().map(|(key, _)| key.method) else {
        return Ok(Vec::new());
    };
    let mut principals = Vec::with_capacity(claims.len());
    let mut request_ids = Vec::with_capacity(claims.len());
    let mut digests = Vec::with_capacity(claims.len());
    let mut outcomes = Vec::with_capacity(claims.len());
    for (key, outcome) in claims {
        principals.push(key.principal.clone());
        request_ids.push(key.request_id.to_string());
        digests.push(key.digest.to_vec());
        outcomes.push(serde_json::to_value(outcome).map_err(Error::internal)?);
    }
    let rows = sqlx::query!(
        r#"INSERT INTO request_outcome (principal, method, request_id, digest, outcome, created_at)
           SELECT principal, $1, request_id, digest, outcome, $2
           FROM unnest($3::text[], $4::text[], $5::bytea[], $6::json[]) WITH ORDINALITY
                AS item (principal, request_id, digest, outcome, number)
           ORDER BY principal, request_id, number
           ON CONFLICT DO NOTHING
           RETURNING principal, request_id, outcome AS "outcome: Json<serde_json::Value>""#,
        method,
        now,
        &principals,
        &request_ids,
        &digests,
        &outcomes[..],
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            (
                KeyRef {
                    principal: row.principal,
                    request_id: row.request_id,
                },
                row.outcome.0,
            )
        })
        .collect())
}

// --- grants

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
            facts: row.facts.0,
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
pub(super) async fn by_ids(
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
pub(super) async fn list(
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

/// What grants are now: only what a check needs.
#[tracing::instrument(name = "db.grant.states", skip_all)]
pub(super) async fn states(
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

/// Locks grants in key order until the transaction ends; tells where those
/// that were revoked singly were ended.
#[tracing::instrument(name = "db.grant.lock", skip_all)]
pub(super) async fn lock(
    connection: &mut PgConnection,
    ids: &[GrantId],
) -> Result<HashMap<GrantId, Position>> {
    let ids = uuids(ids);
    let rows = sqlx::query!(
        "SELECT id, revoked_epoch, revoked_revision FROM permission_grant WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
        &ids,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let position = Position {
                epoch: row.revoked_epoch?,
                revision: row.revoked_revision?,
            };
            Some((GrantId::from_uuid(row.id), position))
        })
        .collect())
}

#[tracing::instrument(name = "db.grant.insert", skip_all)]
pub(super) async fn insert<'a>(
    connection: &mut PgConnection,
    records: impl Iterator<Item = &'a GrantRecord>,
) -> Result<()> {
    // one array of JSON objects: arrays of arrays (restrictions, reasons) have no other form in unnest
    let rows: Vec<serde_json::Value> = records.map(row_of).collect();
    sqlx::query!(
        "INSERT INTO permission_grant (
             id, decision, agent_id, resource_type, scope, justification, machine_id, api_key_id, zone,
             score, score_justification, score_trust, score_risk, reasons, detail, restrictions,
             policy_version, policy_ids, facts, epoch, revision, max_staleness_ms, issued_at, expires_at)
         SELECT item.*
         FROM unnest($1::json[]) AS row,
              json_to_record(row) AS item (
             id uuid, decision text, agent_id text, resource_type text, scope text, justification text,
             machine_id uuid, api_key_id uuid, zone text, score integer, score_justification integer,
             score_trust integer, score_risk integer, reasons text[], detail text, restrictions text[],
             policy_version bigint, policy_ids text[], facts json, epoch bigint, revision bigint,
             max_staleness_ms integer, issued_at timestamptz, expires_at timestamptz)",
        &rows[..],
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn row_of(record: &GrantRecord) -> serde_json::Value {
    let text = |time: OffsetDateTime| {
        time.format(&time::format_description::well_known::Rfc3339)
            .ok()
    };
    serde_json::json!({
        "id": record.id.as_uuid(),
        "decision": if record.granted { "granted" } else { "denied" },
        "agent_id": record.agent_id,
        "resource_type": record.resource_type,
        "scope": record.scope,
        "justification": record.justification,
        "machine_id": record.machine_id.as_uuid(),
        "api_key_id": record.api_key_id.as_uuid(),
        "zone": record.zone.as_str(),
        "score": record.score.total,
        "score_justification": record.score.justification,
        "score_trust": record.score.trust,
        "score_risk": record.score.risk,
        "reasons": record.reasons,
        "detail": record.detail,
        "restrictions": record.restrictions,
        "policy_version": record.policy_version,
        "policy_ids": record.policy_ids,
        "facts": record.facts,
        "epoch": record.position.epoch,
        "revision": record.position.revision,
        "max_staleness_ms": record.max_staleness_ms,
        "issued_at": text(record.issued_at),
        "expires_at": record.expires_at.and_then(text),
    })
}

#[tracing::instrument(name = "db.grant.renew", skip_all)]
pub(super) async fn renew<'a>(
    connection: &mut PgConnection,
    records: impl Iterator<Item = &'a GrantRecord>,
) -> Result<()> {
    let (mut ids, mut renewed, mut expires) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        ids.push(record.id.as_uuid());
        renewed.push(record.renewed_at.unwrap_or(record.issued_at));
        expires.push(record.expires_at.unwrap_or(record.issued_at));
    }
    sqlx::query!(
        "UPDATE permission_grant SET renewed_at = item.renewed_at, expires_at = item.expires_at
         FROM (SELECT id, max(renewed_at) AS renewed_at, max(expires_at) AS expires_at
               FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS given (id, renewed_at, expires_at)
               GROUP BY id) AS item
         WHERE permission_grant.id = item.id",
        &ids,
        &renewed,
        &expires,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.grant.revoke", skip_all)]
pub(super) async fn revoke(
    connection: &mut PgConnection,
    ended: &[(GrantId, Position)],
    now: OffsetDateTime,
) -> Result<()> {
    let ids: Vec<Uuid> = ended.iter().map(|(id, _)| id.as_uuid()).collect();
    let epochs: Vec<i64> = ended.iter().map(|(_, position)| position.epoch).collect();
    let revisions: Vec<i64> = ended
        .iter()
        .map(|(_, position)| position.revision)
        .collect();
    sqlx::query!(
        "UPDATE permission_grant
         SET ended = 'revoked', revoked_at = $4, revoked_epoch = item.epoch, revoked_revision = item.revision
         FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS item (id, epoch, revision)
         WHERE permission_grant.id = item.id",
        &ids,
        &epochs,
        &revisions,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Records a predicate and counts the active grants that it ends.
#[tracing::instrument(name = "db.grant_revocation.insert", skip_all)]
pub(super) async fn revoke_matching(
    connection: &mut PgConnection,
    position: Position,
    target: &RevocationTarget,
    comment: &str,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<i64> {
    let (kind, subject) = match target {
        RevocationTarget::Agent(agent) => ("agent", agent.to_string()),
        RevocationTarget::Machine(machine) => ("machine", machine.as_uuid().to_string()),
        RevocationTarget::ResourceType(name) => ("resource_type", name.to_string()),
        RevocationTarget::Policy(id) => ("policy", id.clone()),
        RevocationTarget::Everything => ("everything", String::new()),
    };
    // counted before the predicate is there: those that were ended already do not count
    let ended = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM permission_grant AS g
           WHERE decision = 'granted' AND ended IS NULL AND expires_at > $3
             AND revoked_by_predicate(g) IS NULL AND grant_matches(g, $1, $2)"#,
        kind,
        subject,
        now,
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO grant_revocation (epoch, revision, kind, subject, created_at, expires_at, comment)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        position.epoch,
        position.revision,
        kind,
        subject,
        now,
        expires_at,
        comment,
    )
    .execute(connection)
    .await?;
    Ok(ended)
}

/// Marks grants whose time is over, passing over those that others hold.
#[tracing::instrument(name = "db.grant.expire", skip_all)]
pub(super) async fn expire(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<(GrantId, AgentId)>> {
    let rows = sqlx::query!(
        "UPDATE permission_grant SET ended = 'expired' WHERE id IN (
             SELECT id FROM permission_grant
             WHERE decision = 'granted' AND ended IS NULL AND expires_at <= $1
             ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id, agent_id",
        now,
        limit,
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let agent = row
                .agent_id
                .parse()
                .map_err(|_| unreadable("permission_grant.agent_id"))?;
            Ok((GrantId::from_uuid(row.id), agent))
        })
        .collect()
}

/// Drops predicates that match nothing that could still be good.
pub(super) async fn drop_spent_predicates(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<()> {
    sqlx::query!("DELETE FROM grant_revocation WHERE expires_at < $1", now)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn count_active(
    connection: &mut PgConnection,
    now: OffsetDateTime,
) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM permission_grant AS g
           WHERE decision = 'granted' AND ended IS NULL AND expires_at > $1 AND revoked_by_predicate(g) IS NULL"#,
        now,
    )
    .fetch_one(connection)
    .await?)
}

fn uuids(ids: &[GrantId]) -> Vec<Uuid> {
    ids.iter().map(|id| id.as_uuid()).collect()
}

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `{column}`"))
}
