//! Asking for a permission: facts → score → policies, judged and recorded in
//! one transaction that share-locks all it rests on.

use std::{collections::HashMap, sync::Arc};

use authguardian_proto::{
    ids::{AgentId, GrantId, ResourceTypeName},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{GrantRecord, GrantState, Grants, MAX_JUSTIFICATION, MAX_SCOPE, basis::Basis, store};
use crate::{
    audit::{self, Context, Entry, Outcome},
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
        request::RequestKey,
    },
    error::{Error, Result},
    events::{self, ChangeBody, Position, Stream},
    identity::Session,
    policy::{engine::Engine, facts::Facts, score::Score, verdict::Verdict},
};

const METHOD: &str = "grants.request_permission";

/// What an agent asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// On whose behalf.
    pub agent_id: AgentId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// Why.
    pub justification: String,
    /// What exactly; `None`: not said, which counts as broad.
    pub scope: Option<String>,
    /// For how long; `None`: as its type says.
    pub ttl_seconds: Option<u32>,
}

impl Ask {
    /// Checks the form.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` or `TOO_LARGE`, naming the field.
    pub fn check(&self) -> Result<()> {
        if self.justification.trim().is_empty() {
            return Err(Error::invalid(
                "justification",
                format!("expected 1 to {MAX_JUSTIFICATION} characters"),
            ));
        }
        if self.justification.chars().count() > MAX_JUSTIFICATION {
            return Err(too_large("justification", MAX_JUSTIFICATION));
        }
        if self.justification.contains('\0') {
            return Err(Error::invalid("justification", "expected text without NUL"));
        }
        let scope = self.scope.as_deref().unwrap_or_default();
        if scope.chars().count() > MAX_SCOPE {
            return Err(too_large("scope", MAX_SCOPE));
        }
        if scope.chars().any(char::is_control) {
            return Err(Error::invalid(
                "scope",
                "expected text without control characters",
            ));
        }
        Ok(())
    }
}

/// What an agent is answered.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What is on record.
    pub record: GrantRecord,
    /// What the grant is now.
    pub state: GrantState,
    /// The token; `None` unless the grant is active.
    pub token: Option<String>,
    /// When that token ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl Grants {
    /// Judges a request. A denial is a result.
    ///
    /// # Errors
    /// `AGENT_MISMATCH`, `UNKNOWN_RESOURCE_TYPE`, `TTL_TOO_LONG`,
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`, and those of key and machine.
    pub async fn request(
        &self,
        context: Context,
        session: Arc<Session>,
        ask: Ask,
    ) -> Result<Decision> {
        ask.check()?;
        session.speaks_for(&ask.agent_id)?;
        let key = context.request_key(&self.ambient, METHOD, &ask)?;
        let id = GrantId::from_uuid(self.ambient.uuid());
        let told = self
            .requests
            .call(Request {
                context,
                session,
                ask,
                key,
                id,
            })
            .await?;
        self.decision(told.record, told.issued, told.expires)
    }

    /// The answer for a record, with the token of the given times (seconds
    /// since 1970) while it is active.
    pub(super) fn decision(
        &self,
        record: GrantRecord,
        issued: i64,
        expires: Option<i64>,
    ) -> Result<Decision> {
        let now = self.ambient.clock.now();
        let state = record.state(now);
        let token = match (state, expires) {
            // a renewal may have outlived the token that this request was given
            (GrantState::Active, Some(expires)) if expires > now.unix_timestamp() => {
                Some(self.sign(&record, issued, expires)?)
            }
            _ => None,
        };
        let expires_at =
            expires.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Ok(Decision {
            record,
            state,
            token,
            expires_at,
        })
    }
}

/// One call in a batch.
pub(super) struct Request {
    context: Context,
    session: Arc<Session>,
    ask: Ask,
    key: RequestKey,
    id: GrantId,
}

/// A record, and the times of the token that this request was given first.
pub(super) struct Told {
    pub(super) record: GrantRecord,
    pub(super) issued: i64,
    pub(super) expires: Option<i64>,
}

/// What is kept for repeats: never the token itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct KeptOutcome {
    pub(super) grant_id: GrantId,
    pub(super) issued: i64,
    pub(super) expires: Option<i64>,
    /// Why a renewal was denied; the grant's own row says why it was itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) denial: Option<Denial>,
}

/// A denial that has no row of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Denial {
    pub(super) reasons: Vec<String>,
    pub(super) detail: String,
    pub(super) score: Score,
    pub(super) policy_ids: Vec<String>,
    pub(super) policy_version: i64,
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

    #[tracing::instrument(name = "grants.request", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Told>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let basis = Basis::lock(
            &mut tx,
            requests.iter().map(|request| {
                (
                    &*request.session,
                    &request.ask.agent_id,
                    &request.ask.resource_type,
                )
            }),
        )
        .await?;
        let keys: Vec<&RequestKey> = requests.iter().map(|request| &request.key).collect();
        let mut kept = store::kept_outcomes(&mut tx, &keys).await?;

        let mut judged = Vec::with_capacity(requests.len());
        {
            let mut engine = self.engine.lock().await;
            let policies = engine.at(&basis.policy)?;
            for request in requests {
                judged.push(match kept.get(&store::KeyRef::of(&request.key)) {
                    Some(_) => basis.check_session(&request.session, now).map(|()| None),
                    None => basis
                        .check_session(&request.session, now)
                        .and_then(|()| basis.judge(&request.ask, &request.session, now))
                        .map(|facts| {
                            let verdict = policies.evaluate(&facts);
                            Some(record_of(&basis, request, &facts, verdict, now))
                        }),
                });
            }
        }

        let mut new: Vec<(&Request, GrantRecord)> = Vec::new();
        for (request, judged) in requests.iter().zip(&judged) {
            if let Ok(Some(record)) = judged {
                new.push((request, record.clone()));
            }
        }
        let taken = claim(&mut tx, &new, now).await?;
        new.retain(|(request, record)| {
            taken.get(&store::KeyRef::of(&request.key)) == Some(&record.id)
        });
        record_all(&mut tx, &mut new, now).await?;

        let mut fresh: HashMap<GrantId, GrantRecord> = new
            .into_iter()
            .map(|(_, record)| (record.id, record))
            .collect();
        // repeats: from before, of another batch that was faster, or within this one
        kept.extend(store::kept_outcomes(&mut tx, &keys).await?);
        let earlier: Vec<GrantId> = kept
            .values()
            .map(|(_, outcome)| outcome.grant_id)
            .filter(|id| !fresh.contains_key(id))
            .collect();
        let earlier: HashMap<GrantId, GrantRecord> = if earlier.is_empty() {
            HashMap::new()
        } else {
            store::by_ids(&mut tx, &earlier)
                .await?
                .into_iter()
                .map(|r| (r.id, r))
                .collect()
        };
        if !earlier.is_empty() {
            self.db.quorum.prove_by_commit(&mut tx).await?;
        }
        let confirmation = self.db.commit_batch(tx).await?;

        let tell = |request: &Request,
                    judged: Result<Option<GrantRecord>>,
                    fresh: &mut HashMap<_, GrantRecord>| {
            judged?;
            let (digest, outcome) = kept
                .get(&store::KeyRef::of(&request.key))
                .ok_or_else(|| Error::internal("the outcome of a request was not kept"))?;
            if *digest != request.key.digest {
                return Err(request.key.reused());
            }
            let record = fresh
                .get(&outcome.grant_id)
                .or_else(|| earlier.get(&outcome.grant_id))
                .ok_or_else(|| Error::internal("the grant of a request is not on record"))?;
            Ok(Told {
                record: record.clone(),
                issued: outcome.issued,
                expires: outcome.expires,
            })
        };
        let replies = requests
            .iter()
            .zip(judged)
            .map(|(request, judged)| tell(request, judged, &mut fresh))
            .collect();
        Ok(Served {
            replies,
            confirmation,
        })
    }
}

/// Takes the request ids of new records; tells whose grant each now stands for.
async fn claim(
    connection: &mut PgConnection,
    new: &[(&Request, GrantRecord)],
    now: OffsetDateTime,
) -> Result<HashMap<store::KeyRef, GrantId>> {
    let claims: Vec<(&RequestKey, KeptOutcome)> = new
        .iter()
        .map(|(request, record)| {
            let outcome = KeptOutcome {
                grant_id: record.id,
                issued: record.issued_at.unix_timestamp(),
                expires: record.expires_at.map(OffsetDateTime::unix_timestamp),
                denial: None,
            };
            (&request.key, outcome)
        })
        .collect();
    store::claim(connection, &claims, now).await
}

/// Audit entries, changes (which give the positions) and rows of new records.
async fn record_all(
    connection: &mut PgConnection,
    new: &mut [(&Request, GrantRecord)],
    now: OffsetDateTime,
) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let entries: Vec<Entry> = new
        .iter()
        .map(|(request, record)| entry(request, record))
        .collect();
    audit::append(connection, now, &entries).await?;
    let changes: Vec<ChangeBody> = new
        .iter()
        .filter_map(|(_, record)| issued(record))
        .collect();
    let mut positions = events::append(connection, Stream::Grants, now, &changes)
        .await?
        .into_iter();
    for (_, record) in new.iter_mut().filter(|(_, record)| record.granted) {
        record.position = positions
            .next()
            .ok_or_else(|| Error::internal("a change has no position"))?;
    }
    store::insert(connection, new.iter().map(|(_, record)| record)).await
}

fn entry(request: &Request, record: &GrantRecord) -> Entry {
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

fn issued(record: &GrantRecord) -> Option<ChangeBody> {
    Some(ChangeBody::GrantIssued {
        grant_id: record.id,
        agent_id: record.agent_id.clone(),
        resource_type: record.resource_type.clone(),
        expires_at: record.expires_at.filter(|_| record.granted)?,
    })
}

/// What is put on record of a judged request; its position comes later.
fn record_of(
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
        zone: request.session.zone,
        score: facts.score,
        reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
        detail: verdict.detail,
        restrictions,
        policy_version: basis.policy.version.cast_signed(),
        policy_ids: verdict.policy_ids,
        facts: serde_json::to_value(facts).unwrap_or_default(),
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

fn too_large(field: &str, limit: usize) -> Error {
    Problem::new(
        Reason::TooLarge,
        format!("expected {limit} characters at most"),
    )
    .at(field)
    .into()
}
