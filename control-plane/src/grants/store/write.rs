//! Writing grants.

use std::collections::HashMap;

use authguardian_proto::ids::GrantId;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::uuids;
use crate::{error::Result, events::Position, grants::GrantRecord};

/// Locks grants in key order until the transaction ends; tells where those
/// that were revoked singly were ended.
#[tracing::instrument(name = "db.grant.lock", skip_all)]
pub(in crate::grants) async fn lock(
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
pub(in crate::grants) async fn insert<'a>(
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
pub(in crate::grants) async fn renew<'a>(
    connection: &mut PgConnection,
    records: impl Iterator<Item = &'a GrantRecord>,
) -> Result<()> {
    let rows: Vec<serde_json::Value> = records
        .map(|record| {
            serde_json::json!({
                "id": record.id.as_uuid(),
                "renewed_at": record.renewed_at.and_then(text),
                "expires_at": record.expires_at.and_then(text),
                "restrictions": record.restrictions,
                "policy_ids": record.policy_ids,
                "max_staleness_ms": record.max_staleness_ms,
            })
        })
        .collect();
    // `ended`: another control plane, its clock ahead, may have swept it just now
    sqlx::query!(
        "UPDATE permission_grant
         SET renewed_at = item.renewed_at, expires_at = item.expires_at, ended = NULL,
             restrictions = item.restrictions, policy_ids = item.policy_ids,
             max_staleness_ms = item.max_staleness_ms
         FROM unnest($1::json[]) AS row,
              json_to_record(row) AS item (
             id uuid, renewed_at timestamptz, expires_at timestamptz, restrictions text[],
             policy_ids text[], max_staleness_ms integer)
         WHERE permission_grant.id = item.id",
        &rows[..],
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[tracing::instrument(name = "db.grant.revoke", skip_all)]
pub(in crate::grants) async fn revoke(
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

/// As PostgreSQL reads it (RFC 3339).
fn text(time: OffsetDateTime) -> Option<String> {
    time.format(&time::format_description::well_known::Rfc3339)
        .ok()
}
