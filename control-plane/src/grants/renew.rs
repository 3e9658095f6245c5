//! Renewing: the grant is judged again as if it were asked for now, and lives
//! on, at most to its type's maximum from first issue.

use std::{collections::HashMap, sync::Arc};

use authguardian_proto::{
    grant_token::GrantClaims,
    ids::GrantId,
    reason::{Problem, Reason},
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::{
    Decision, GrantRecord, GrantState, Grants,
    basis::Basis,
    request::{Ask, Denial, KeptOutcome, Told},
    store,
};
use crate::{
    audit::{self, Context, Entry, Outcome},
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
        request::{KeyRef, RequestKey},
    },
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
    identity::Session,
    policy::{engine::Engine, facts::Facts, verdict::Verdict},
};

const METHOD: &str = "grants.renew_permission";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Renewal {
    /// Which grant.
    pub grant_id: GrantId,
    /// For how long from now; `None`: as its type says.
    pub ttl_seconds: Option<u32>,
}

impl Grants {
    /// Extends an active grant. A denial leaves it as it was.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `TOKEN_FOREIGN_KEY`, `AGENT_MISMATCH`, `GRANT_EXPIRED`,
    /// `GRANT_REVOKED`, `TTL_TOO_LONG`.
    pub async fn renew(
        &self,
        context: Context,
        session: Arc<Session>,
        token: &str,
        ttl_seconds: Option<u32>,
    ) -> Result<Decision> {
        let claims = self.read_token(token).await?;
        session.speaks_for(&claims.sub)?;
        let renewal = Renewal {
            grant_id: claims.jti,
            ttl_seconds,
        };
        let key = context.request_key(&self.ambient, METHOD, &renewal)?;
        let told = self
            .renewals
            .call(Request {
                context,
                session,
                claims,
                renewal,
                key,
            })
            .await?;
        self.decision(told.record, told.issued, told.expires)
    }
}

pub(super) struct Request {
    context: Context,
    session: Arc<Session>,
    claims: Arc<GrantClaims>,
    renewal: Renewal,
    key: RequestKey,
}

/// The batch operation; it owns its parsed copy of the policies.
pub(super) struct Operation {
    db: Db,
    ambient: Ambient,
    engine: Engine,
}

impl Operation {
    pub(super) fn new(db: Db, ambient: Ambient) -> Self {
        Self {
            db,
            ambient,
            engine: Engine::default(),
        }
    }
}

impl batch::Operation for Operation {
    type Request = Request;
    type Reply = Told;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "grants.renew", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Told>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let basis = Basis::lock(
            &mut tx,
            &self.engine,
            requests
                .iter()
                .map(|request| (&*request.session, &request.claims.sub, &request.claims.aud)),
        )
        .await?;
        let ids: Vec<GrantId> = requests
            .iter()
            .map(|request| request.renewal.grant_id)
            .collect();
        // one at a time with revocations and other renewals of the same grants
        store::lock(&mut tx, &ids).await?;
        let records: HashMap<GrantId, GrantRecord> = store::by_ids(&mut tx, &ids)
            .await?
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let keys: Vec<&RequestKey> = requests.iter().map(|request| &request.key).collect();
        let kept = store::kept_outcomes(&mut tx, &keys).await?;
        let mut round = Round {
            basis,
            records,
            kept,
            now,
            entries: Vec::new(),
            changes: Vec::new(),
            claims: Vec::new(),
            renewed: Vec::new(),
        };
        let replies = requests
            .iter()
            .map(|request| round.serve(request))
            .collect();
        store::claim(&mut tx, &round.claims, now).await?;
        store::renew(&mut tx, round.renewed.iter()).await?;
        audit::append(&mut tx, now, &round.entries).await?;
        events::append(&mut tx, Stream::Grants, now, &round.changes).await?;
        self.db.quorum.prove_by_commit(&mut tx).await?;
        Ok(Served {
            replies,
            confirmation: self.db.commit_batch(tx).await?,
        })
    }
}

/// One batch being judged: what it rests on, and what is to be written.
struct Round<'a> {
    basis: Basis,
    records: HashMap<GrantId, GrantRecord>,
    kept: HashMap<KeyRef, ([u8; 32], KeptOutcome)>,
    now: OffsetDateTime,
    entries: Vec<Entry>,
    changes: Vec<ChangeBody>,
    claims: Vec<(&'a RequestKey, KeptOutcome)>,
    renewed: Vec<GrantRecord>,
}

impl<'a> Round<'a> {
    fn serve(&mut self, request: &'a Request) -> Result<Told> {
        self.basis
            .check_session(&request.session, &request.claims.sub, self.now)?;
        if let Some((digest, outcome)) = self.kept.get(&KeyRef::of(&request.key)) {
            if *digest != request.key.digest {
                return Err(request.key.reused());
            }
            return self.told(outcome);
        }
        let record = self.record(request.renewal.grant_id)?;
        refuse_ended(record, self.now)?;
        let ask = Ask {
            agent_id: record.agent_id.clone(),
            resource_type: record.resource_type.clone(),
            justification: record.justification.clone(),
            scope: record.scope.clone(),
            ttl_seconds: request.renewal.ttl_seconds,
        };
        let facts = self.basis.judge(&ask, &request.session, self.now)?;
        let verdict = self.basis.policies.evaluate(&facts);
        let outcome = if verdict.is_granted() {
            self.extend(request, &facts, &verdict)?
        } else {
            self.deny(request, &facts, verdict)
        };
        self.claims.push((&request.key, outcome.clone()));
        let told = self.told(&outcome);
        self.kept
            .insert(KeyRef::of(&request.key), (request.key.digest, outcome));
        told
    }

    /// The grant lives on, under what its type and the policies ask for now as
    /// well as under what it was given with.
    fn extend(
        &mut self,
        request: &Request,
        facts: &Facts,
        verdict: &Verdict,
    ) -> Result<KeptOutcome> {
        let mut record = self.record(request.renewal.grant_id)?.clone();
        let kind = self.basis.resource_type(&record.resource_type)?;
        let ends = extended(
            &record,
            facts,
            verdict.obligations.ttl,
            kind.max_ttl_seconds,
            self.now,
        )?;
        record.renewed_at = Some(self.now.replace_nanosecond(0).unwrap_or(self.now));
        record.expires_at = Some(ends);
        let restrictions = kind
            .restrictions
            .iter()
            .chain(&verdict.obligations.restrictions);
        unite(&mut record.restrictions, restrictions);
        unite(&mut record.policy_ids, &verdict.policy_ids);
        let staleness = verdict.obligations.max_staleness.as_millis();
        record.max_staleness_ms = i32::try_from(staleness)
            .unwrap_or(i32::MAX)
            .min(record.max_staleness_ms);

        self.entries.push(entry(request, &record));
        self.changes.push(ChangeBody::GrantRenewed {
            grant_id: record.id,
            agent_id: record.agent_id.clone(),
            expires_at: ends,
        });
        let outcome = KeptOutcome {
            grant_id: record.id,
            issued: self.now.unix_timestamp(),
            expires: Some(ends.unix_timestamp()),
            denial: None,
        };
        self.renewed.retain(|other| other.id != record.id);
        self.renewed.push(record.clone());
        self.records.insert(record.id, record);
        Ok(outcome)
    }

    /// The grant stays as it was.
    fn deny(&mut self, request: &Request, facts: &Facts, verdict: Verdict) -> KeptOutcome {
        if let Some(record) = self.records.get(&request.renewal.grant_id) {
            let reason = verdict.reasons.first().copied();
            self.entries
                .push(entry(request, record).not_ok(Outcome::Denied, reason));
        }
        KeptOutcome {
            grant_id: request.renewal.grant_id,
            issued: 0,
            expires: None,
            denial: Some(Denial {
                reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
                detail: verdict.detail,
                score: facts.score,
                policy_ids: verdict.policy_ids,
                policy_version: self.basis.policies.version().cast_signed(),
            }),
        }
    }

    fn told(&self, outcome: &KeptOutcome) -> Result<Told> {
        let mut record = self.record(outcome.grant_id)?.clone();
        if let Some(denial) = &outcome.denial {
            record.granted = false;
            record.reasons.clone_from(&denial.reasons);
            record.detail.clone_from(&denial.detail);
            record.score = denial.score;
            record.policy_ids.clone_from(&denial.policy_ids);
            record.policy_version = denial.policy_version;
        }
        Ok(Told {
            record,
            issued: outcome.issued,
            expires: outcome.expires,
        })
    }

    fn record(&self, id: GrantId) -> Result<&GrantRecord> {
        self.records.get(&id).ok_or_else(not_found)
    }
}

/// Adds what is not there yet; sorted.
fn unite<'b>(all: &mut Vec<String>, more: impl IntoIterator<Item = &'b String>) {
    all.extend(more.into_iter().cloned());
    all.sort_unstable();
    all.dedup();
}

/// The new end: never earlier than the present one, never beyond the type's
/// maximum from first issue.
fn extended(
    record: &GrantRecord,
    facts: &Facts,
    policy_ttl: Option<std::time::Duration>,
    max_ttl_seconds: u32,
    now: OffsetDateTime,
) -> Result<OffsetDateTime> {
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let last = record.issued_at + Duration::seconds(i64::from(max_ttl_seconds));
    let ttl = policy_ttl.map_or(i64::from(facts.ttl_seconds), |limit| {
        i64::try_from(limit.as_secs())
            .unwrap_or(i64::MAX)
            .min(i64::from(facts.ttl_seconds))
    });
    if now >= last {
        return Err(Problem::new(
            Reason::TtlTooLong,
            format!("this grant has lived its {max_ttl_seconds} seconds; request another"),
        )
        .at("ttl_seconds")
        .into());
    }
    let wanted = (now + Duration::seconds(ttl)).min(last);
    Ok(record.expires_at.map_or(wanted, |end| end.max(wanted)))
}

fn refuse_ended(record: &GrantRecord, now: OffsetDateTime) -> Result<()> {
    match record.state(now) {
        GrantState::Active => Ok(()),
        GrantState::Expired => Err(Error::new(
            Reason::GrantExpired,
            "this grant has expired; request another",
        )),
        GrantState::Revoked => Err(Error::new(
            Reason::GrantRevoked,
            "this grant was revoked; request another",
        )),
        GrantState::Denied => Err(not_found()),
    }
}

fn entry(request: &Request, record: &GrantRecord) -> Entry {
    let mut context = request.context.clone();
    context.actor = audit::Actor::Agent(Some(record.agent_id.clone()), request.session.api_key_id);
    Entry::ok(context, "grant.renew", record.id.to_string()).about(record.agent_id.clone())
}

fn not_found() -> Error {
    Error::new(Reason::GrantNotFound, "there is no such grant")
}
