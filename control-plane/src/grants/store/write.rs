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
    let mut columns = Columns::default();
    for record in records {
        columns.push(record);
    }
    // arrays of arrays have no other form in unnest than their text
    sqlx::query!(
        "INSERT INTO permission_grant (
             id, decision, agent_id, resource_type, scope, justification, machine_id, api_key_id, zone,
             score, score_justification, score_trust, score_risk, reasons, detail, restrictions,
             policy_version, policy_ids, facts, epoch, revision, max_staleness_ms, issued_at, expires_at)
         SELECT id, decision, agent_id, resource_type, scope, justification, machine_id, api_key_id, zone,
                score, score_justification, score_trust, score_risk, reasons::text[], detail, restrictions::text[],
                policy_version, policy_ids::text[], facts::json, epoch, revision, max_staleness_ms, issued_at, expires_at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::uuid[],
                     $9::text[], $10::integer[], $11::integer[], $12::integer[], $13::integer[], $14::text[], $15::text[],
                     $16::text[], $17::bigint[], $18::text[], $19::text[], $20::bigint[], $21::bigint[],
                     $22::integer[], $23::timestamptz[], $24::timestamptz[])
              AS item (id, decision, agent_id, resource_type, scope, justification, machine_id, api_key_id, zone,
                       score, score_justification, score_trust, score_risk, reasons, detail, restrictions,
                       policy_version, policy_ids, facts, epoch, revision, max_staleness_ms, issued_at, expires_at)",
        &columns.ids,
        &columns.decisions as _,
        &columns.agents as _,
        &columns.resource_types as _,
        &columns.scopes as _,
        &columns.justifications as _,
        &columns.machines,
        &columns.api_keys,
        &columns.zones as _,
        &columns.scores,
        &columns.score_justifications,
        &columns.score_trusts,
        &columns.score_risks,
        &columns.reasons,
        &columns.details as _,
        &columns.restrictions,
        &columns.policy_versions,
        &columns.policy_ids,
        &columns.facts as _,
        &columns.epochs,
        &columns.revisions,
        &columns.max_stalenesses,
        &columns.issued,
        &columns.expires as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Grants by column, as `unnest` wants them.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    decisions: Vec<&'static str>,
    agents: Vec<&'a str>,
    resource_types: Vec<&'a str>,
    scopes: Vec<Option<&'a str>>,
    justifications: Vec<&'a str>,
    machines: Vec<Uuid>,
    api_keys: Vec<Uuid>,
    zones: Vec<&'static str>,
    scores: Vec<i32>,
    score_justifications: Vec<i32>,
    score_trusts: Vec<i32>,
    score_risks: Vec<i32>,
    reasons: Vec<String>,
    details: Vec<&'a str>,
    restrictions: Vec<String>,
    policy_versions: Vec<i64>,
    policy_ids: Vec<String>,
    facts: Vec<&'a str>,
    epochs: Vec<i64>,
    revisions: Vec<i64>,
    max_stalenesses: Vec<i32>,
    issued: Vec<OffsetDateTime>,
    expires: Vec<Option<OffsetDateTime>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, record: &'a GrantRecord) {
        let score = record.score;
        self.ids.push(record.id.as_uuid());
        self.decisions
            .push(if record.granted { "granted" } else { "denied" });
        self.agents.push(record.agent_id.as_str());
        self.resource_types.push(record.resource_type.as_str());
        self.scopes.push(record.scope.as_deref());
        self.justifications.push(&record.justification);
        self.machines.push(record.machine_id.as_uuid());
        self.api_keys.push(record.api_key_id.as_uuid());
        self.zones.push(record.zone.as_str());
        self.scores.push(score.total.cast_signed());
        self.score_justifications
            .push(score.justification.cast_signed());
        self.score_trusts.push(score.trust.cast_signed());
        self.score_risks.push(score.risk.cast_signed());
        self.reasons.push(array_literal(&record.reasons));
        self.details.push(&record.detail);
        self.restrictions.push(array_literal(&record.restrictions));
        self.policy_versions.push(record.policy_version);
        self.policy_ids.push(array_literal(&record.policy_ids));
        self.facts.push(&record.facts);
        self.epochs.push(record.position.epoch);
        self.revisions.push(record.position.revision);
        self.max_stalenesses.push(record.max_staleness_ms);
        self.issued.push(record.issued_at);
        self.expires.push(record.expires_at);
    }
}

/// The text form of an array of texts, each quoted (PostgreSQL manual, 8.15.6).
fn array_literal(texts: &[String]) -> String {
    let mut literal = String::from("{");
    for (number, text) in texts.iter().enumerate() {
        literal.push_str(if number == 0 { "\"" } else { ",\"" });
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(c);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_whatever_they_hold() {
        let literal = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            array_literal(&texts)
        };
        assert_eq!(literal(&[]), "{}");
        assert_eq!(literal(&["a", "NULL", ""]), r#"{"a","NULL",""}"#);
        assert_eq!(literal(&[r#"a"b\c,{}"#]), r#"{"a\"b\\c,{}"}"#);
    }
}
