//! Requests by the batch: judged and recorded in one transaction that
//! share-locks all they rest on.

use std::{collections::HashMap, sync::Arc};

use authguardian_proto::ids::GrantId;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Ask, KeptOutcome, Told, record};
use crate::{
    audit::{self, Context, Entry},
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
        request::{KeyRef, RequestKey},
    },
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
    grants::{GrantRecord, basis::Basis, store},
    identity::Session,
    policy::Engine,
};

/// One call in a batch.
pub(in crate::grants) struct Request {
    pub(super) context: Context,
    pub(super) session: Arc<Session>,
    pub(super) ask: Ask,
    pub(super) key: RequestKey,
    pub(super) id: GrantId,
}

/// The batch operation; it owns its parsed copy of the policies.
pub(in crate::grants) struct Operation {
    db: Db,
    ambient: Ambient,
    engine: Engine,
}

impl Operation {
    pub(in crate::grants) fn new(db: Db, ambient: Ambient) -> Self {
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

    const AT_ONCE: usize = 2;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "grants.request", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Told>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let calls = requests.iter().map(|request| {
            let ask = &request.ask;
            (&*request.session, &ask.agent_id, &ask.resource_type)
        });
        let basis = Basis::lock(&mut tx, &self.engine, calls).await?;
        let mut replies: Vec<Option<Result<Told>>> = Vec::with_capacity(requests.len());
        let mut judged = Vec::with_capacity(requests.len());
        for (at, request) in requests.iter().enumerate() {
            match basis.check_session(&request.session, &request.ask.agent_id, now) {
                Ok(()) => {
                    replies.push(None);
                    judged.push(Judged {
                        at,
                        request,
                        outcome: judge(&basis, request, now),
                    });
                }
                Err(error) => replies.push(Some(Err(error))),
            }
        }

        let (fresh, repeated) = claim(&mut tx, judged, now).await?;
        let fresh = record_all(&mut tx, fresh, now).await?;
        let fresh_ids: HashMap<GrantId, usize> = fresh
            .iter()
            .map(|(at, told)| (told.record.id, *at))
            .collect();
        for (at, told) in fresh {
            replies[at] = Some(Ok(told));
        }
        if !repeated.is_empty() {
            let earlier = Earlier::read(&mut tx, &repeated, &fresh_ids).await?;
            self.db.quorum.prove_by_commit(&mut tx).await?;
            for judged in repeated {
                let at = judged.at;
                let told = earlier.tell(judged, &fresh_ids, &replies);
                replies[at] = Some(told);
            }
        }
        let confirmation = self.db.commit_batch(tx).await?;
        let replies = replies.into_iter().map(|reply| {
            reply.unwrap_or_else(|| Err(Error::internal("a request was not answered")))
        });
        Ok(Served {
            replies: replies.collect(),
            confirmation,
        })
    }
}

/// A call whose session stands.
struct Judged<'a> {
    at: usize,
    request: &'a Request,
    outcome: Result<GrantRecord>,
}

fn judge(basis: &Basis, request: &Request, now: OffsetDateTime) -> Result<GrantRecord> {
    let facts = basis.judge(&request.ask, &request.session, now)?;
    let verdict = basis.policies.evaluate(&facts);
    Ok(record::of(basis, request, &facts, verdict, now))
}

/// A new record and the call that it is the outcome of.
type Fresh<'a> = (usize, &'a Request, GrantRecord);

/// Takes the request ids. Returns the calls that are new, and those that are
/// not: repeats, or refused as they stand.
async fn claim<'a>(
    connection: &mut PgConnection,
    judged: Vec<Judged<'a>>,
    now: OffsetDateTime,
) -> Result<(Vec<Fresh<'a>>, Vec<Judged<'a>>)> {
    let claims: Vec<(&RequestKey, KeptOutcome)> = judged
        .iter()
        .filter_map(|judged| {
            let record = judged.outcome.as_ref().ok()?;
            let outcome = KeptOutcome {
                grant_id: record.id,
                issued: record.issued_at.unix_timestamp(),
                expires: record.expires_at.map(OffsetDateTime::unix_timestamp),
                denial: None,
            };
            Some((&judged.request.key, outcome))
        })
        .collect();
    let taken = store::claim(connection, &claims, now).await?;
    let (mut fresh, mut rest) = (Vec::with_capacity(judged.len()), Vec::new());
    for judged in judged {
        match judged.outcome {
            Ok(record) if taken.contains(&record.id) => {
                fresh.push((judged.at, judged.request, record));
            }
            outcome => rest.push(Judged { outcome, ..judged }),
        }
    }
    Ok((fresh, rest))
}

/// Audit entries, changes (which give the positions) and rows of new records.
async fn record_all(
    connection: &mut PgConnection,
    mut fresh: Vec<Fresh<'_>>,
    now: OffsetDateTime,
) -> Result<Vec<(usize, Told)>> {
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<Entry> = fresh
        .iter()
        .map(|(_, request, record)| record::entry(request, record))
        .collect();
    audit::append(connection, now, &entries).await?;
    let changes: Vec<ChangeBody> = fresh
        .iter()
        .filter_map(|(.., record)| record::issued(record))
        .collect();
    let mut positions = events::append(connection, Stream::Grants, now, &changes)
        .await?
        .into_iter();
    for (.., record) in fresh.iter_mut().filter(|(.., record)| record.granted) {
        record.position = positions
            .next()
            .ok_or_else(|| Error::internal("a change has no position"))?;
    }
    store::insert(connection, fresh.iter().map(|(.., record)| record)).await?;
    Ok(fresh
        .into_iter()
        .map(|(at, _, record)| {
            let told = Told {
                issued: record.issued_at.unix_timestamp(),
                expires: record.expires_at.map(OffsetDateTime::unix_timestamp),
                record,
            };
            (at, told)
        })
        .collect())
}

/// The outcomes of repeats: from before, of another batch that was faster, or
/// of an equal call in this one.
struct Earlier {
    kept: HashMap<KeyRef, ([u8; 32], KeptOutcome)>,
    records: HashMap<GrantId, GrantRecord>,
}

impl Earlier {
    async fn read(
        connection: &mut PgConnection,
        repeated: &[Judged<'_>],
        fresh: &HashMap<GrantId, usize>,
    ) -> Result<Self> {
        let keys: Vec<&RequestKey> = repeated.iter().map(|judged| &judged.request.key).collect();
        let kept = store::kept_outcomes(connection, &keys).await?;
        let ids: Vec<GrantId> = kept
            .values()
            .map(|(_, outcome)| outcome.grant_id)
            .filter(|id| !fresh.contains_key(id))
            .collect();
        let records = store::by_ids(connection, &ids)
            .await?
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        Ok(Self { kept, records })
    }

    fn tell(
        &self,
        judged: Judged<'_>,
        fresh: &HashMap<GrantId, usize>,
        replies: &[Option<Result<Told>>],
    ) -> Result<Told> {
        let key = &judged.request.key;
        let Some((digest, outcome)) = self.kept.get(&KeyRef::of(key)) else {
            // never served before: it is refused as it stands
            judged.outcome?;
            return Err(Error::internal("the outcome of a request was not kept"));
        };
        if *digest != key.digest {
            return Err(key.reused());
        }
        let in_this_batch = fresh
            .get(&outcome.grant_id)
            .and_then(|at| replies[*at].as_ref()?.as_ref().ok())
            .map(|told| &told.record);
        let record = in_this_batch
            .or_else(|| self.records.get(&outcome.grant_id))
            .ok_or_else(|| Error::internal("the grant of a request is not on record"))?;
        Ok(Told {
            record: record.clone(),
            issued: outcome.issued,
            expires: outcome.expires,
        })
    }
}
