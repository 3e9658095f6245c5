//! What is put on record of a judged request.

use authguardian_proto::reason::Reason;
use time::OffsetDateTime;

use super::batch::Request;
use crate::{
    audit::{self, Entry, Outcome},
    events::{ChangeBody, Position},
    grants::{GrantRecord, basis::Basis},
    policy::{facts::Facts, verdict::Verdict},
};

/// The record; its position comes later.
pub(super) fn of(
    basis: &Basis,
    request: &Request,
    facts: &Facts,
    verdict: Verdict,
    now: OffsetDateTime,
) -> GrantRecord {
    let granted = verdict.is_granted();
    // tokens count in whole seconds
    let issued_at = now.replace_nanosecond(0).unwrap_or(now);
    let ttl = verdict
        .obligations
        .ttl
        .map_or(u64::from(facts.ttl_seconds), |limit| {
            limit.as_secs().min(u64::from(facts.ttl_seconds))
        });
    let kind = basis.resource_type(&facts.resource_type).ok();
    let mut restrictions: Vec<String> = if granted {
        kind.map(|kind| kind.restrictions.clone())
            .unwrap_or_default()
    } else {
        Vec::new()
    };
    restrictions.extend(
        verdict
            .obligations
            .restrictions
            .iter()
            .filter(|_| granted)
            .cloned(),
    );
    restrictions.sort_unstable();
    restrictions.dedup();
    GrantRecord {
        id: request.id,
        granted,
        agent_id: request.ask.agent_id.clone(),
        resource_type: request.ask.resource_type.clone(),
        scope: request.ask.scope.clone(),
        justification: request.ask.justification.clone(),
        machine_id: request.session.machine,
        api_key_id: request.session.api_key_id,
        zone: basis.zone(&request.session),
        score: facts.score,
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        detail: verdict.detail,
        restrictions,
        policy_version: basis.policies.version().cast_signed(),
        policy_ids: verdict.policy_ids,
        facts: serde_json::to_string(facts).unwrap_or_default(),
        position: Position {
            epoch: 0,
            revision: 0,
        },
        max_staleness_ms: i32::try_from(verdict.obligations.max_staleness.as_millis())
            .unwrap_or(i32::MAX),
        issued_at,
        renewed_at: None,
        expires_at: granted.then(|| issued_at + std::time::Duration::from_secs(ttl)),
        revoked_at: None,
    }
}

pub(super) fn entry(request: &Request, record: &GrantRecord) -> Entry {
    let mut context = request.context.clone();
    context.actor = audit::Actor::Agent(Some(record.agent_id.clone()), request.session.api_key_id);
    let entry =
        Entry::ok(context, "grant.request", record.id.to_string()).about(record.agent_id.clone());
    if record.granted {
        return entry;
    }
    let reason = record
        .reasons
        .first()
        .and_then(|reason| Reason::parse(reason));
    entry.not_ok(Outcome::Denied, reason)
}

pub(super) fn issued(record: &GrantRecord) -> Option<ChangeBody> {
    Some(ChangeBody::GrantIssued {
        grant_id: record.id,
        agent_id: record.agent_id.clone(),
        resource_type: record.resource_type.clone(),
        expires_at: record.expires_at.filter(|_| record.granted)?,
    })
}
