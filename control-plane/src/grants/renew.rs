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
use tokio::sync::Mutex;

use super::{
    Decision, GrantRecord, GrantState, Grants,
    basis::Basis,
    request::{Ask, KeptOutcome, Told},
    store,
};
use crate::{
    audit::{self, Context, Entry, Outcome},
    clock::Ambient,
    db::{Db, batch, request::RequestKey},
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
    identity::Session,
    policy::engine::Engine,
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
        let claims = self.read_token(token)?;
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
    engine: Mutex<Engine>,
}

impl Operation {
    pub(super) fn new(db: Db, ambient: Ambient) -> Self {
        Self {
            db,
            ambient,
            engine: Mutex::default(),
        }
    }
}

impl batch::Operation for Operation {
    type Request = Request;
    type Reply = Told;

    #[tracing::instrument(name = "grants.renew", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Vec<Result<Told>>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let basis = Basis::lock(
            &mut tx,
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
        let mut records: HashMap<GrantId, GrantRecord> = store::by_ids(&mut tx, &ids)
            .await?
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let keys: Vec<&RequestKey> = requests.iter().map(|request| &request.key).collect();
        let mut kept = store::kept_outcomes(&mut tx, &keys).await?;

        let mut results = Vec::with_capacity(requests.len());
        let mut entries = Vec::new();
        let mut changes = Vec::new();
        let mut renewed = Vec::new();
        let mut engine = self.engine.lock().await;
        let policies = engine.at(&basis.policy)?;
        for request in requests {
            let result = (|| {
                basis.check_session(&request.session, now)?;
                if let Some((digest, outcome)) = kept.get(&store::KeyRef::of(&request.key)) {
                    if *digest != request.key.digest {
                        return Err(request.key.reused());
                    }
                    let record = records
                        .get(&outcome.grant_id)
                        .cloned()
                        .ok_or_else(not_found)?;
                    return Ok((
                        Told {
                            record,
                            issued: outcome.issued,
                            expires: outcome.expires,
                        },
                        None,
                    ));
                }
                let record = records
                    .get(&request.renewal.grant_id)
                    .ok_or_else(not_found)?;
                refuse_ended(record, now)?;
                let ask = Ask {
                    agent_id: record.agent_id.clone(),
                    resource_type: record.resource_type.clone(),
                    justification: record.justification.clone(),
                    scope: record.scope.clone(),
                    ttl_seconds: request.renewal.ttl_seconds,
                };
                let facts = basis.judge(&ask, &request.session, now)?;
                let verdict = policies.evaluate(&facts);
                if !verdict.is_granted() {
                    let mut denied = record.clone();
                    denied.granted = false;
                    denied.reasons = verdict.reasons.iter().map(ToString::to_string).collect();
                    denied.detail = verdict.detail;
                    denied.score = facts.score;
                    denied.policy_ids = verdict.policy_ids;
                    denied.policy_version = basis.policy.version.cast_signed();
                    return Ok((
                        Told {
                            record: denied,
                            issued: 0,
                            expires: None,
                        },
                        None,
                    ));
                }
                let limit = basis.resource_type(&record.resource_type)?.max_ttl_seconds;
                let expires_at = extended(record, &facts, verdict.obligations.ttl, limit, now)?;
                let mut record = record.clone();
                record.renewed_at = Some(now.replace_nanosecond(0).unwrap_or(now));
                record.expires_at = Some(expires_at);
                Ok((
                    Told {
                        issued: now.unix_timestamp(),
                        expires: Some(expires_at.unix_timestamp()),
                        record,
                    },
                    Some(expires_at),
                ))
            })();
            match result {
                Ok((told, Some(expires_at))) => {
                    let record = told.record.clone();
                    let outcome = KeptOutcome {
                        grant_id: record.id,
                        issued: told.issued,
                        expires: told.expires,
                    };
                    kept.insert(
                        store::KeyRef::of(&request.key),
                        (request.key.digest, outcome),
                    );
                    entries.push(entry(request, &record));
                    changes.push(ChangeBody::GrantRenewed {
                        grant_id: record.id,
                        agent_id: record.agent_id.clone(),
                        expires_at,
                    });
                    records.insert(record.id, record.clone());
                    renewed.push((&request.key, outcome, record));
                    results.push(Ok(told));
                }
                Ok((told, None)) => {
                    if !told.record.granted {
                        let reason = told
                            .record
                            .reasons
                            .first()
                            .and_then(|reason| Reason::parse(reason));
                        entries.push(entry(request, &told.record).not_ok(Outcome::Denied, reason));
                    }
                    results.push(Ok(told));
                }
                Err(error) => results.push(Err(error)),
            }
        }
        drop(engine);
        let claims: Vec<(&RequestKey, KeptOutcome)> = renewed
            .iter()
            .map(|(key, outcome, _)| (*key, *outcome))
            .collect();
        store::claim(&mut tx, &claims, now).await?;
        store::renew(&mut tx, renewed.iter().map(|(_, _, record)| record)).await?;
        audit::append(&mut tx, now, &entries).await?;
        events::append(&mut tx, Stream::Grants, now, &changes).await?;
        self.db.quorum.prove_by_commit(&mut tx).await?;
        self.db.commit(tx).await?;
        Ok(results)
    }
}

/// The new end: never earlier than the present one, never beyond the type's
/// maximum from first issue.
fn extended(
    record: &GrantRecord,
    facts: &crate::policy::facts::Facts,
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
