//! Ending one grant, by its holder or an operator.

use std::{collections::HashMap, sync::Arc};

use authguardian_proto::{
    ids::{AgentId, GrantId},
    reason::Reason,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{GrantRecord, GrantState, Grants, store};
use crate::{
    audit::{self, Actor, Context, Entry},
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
        request::{KeyRef, RequestKey},
    },
    error::{Error, Result},
    events::{self, ChangeBody, Position, Stream},
    identity::{self, Session},
};

const METHOD: &str = "grants.revoke";

/// What became of a revocation; also what is kept for repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Which grant.
    pub grant_id: GrantId,
    /// Where in the `grants` stream it was ended.
    pub position: Position,
    /// Whether it was active until this ended it.
    pub ended: bool,
}

impl Grants {
    /// Ends the grant of a token of the caller's own agents. Twice succeeds.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `TOKEN_FOREIGN_KEY`, `PERMISSION_DENIED`.
    pub async fn revoke_token(
        &self,
        context: Context,
        session: Arc<Session>,
        token: &str,
    ) -> Result<Revoked> {
        let claims = self.read_token(token).await?;
        if session.speaks_for(&claims.sub).is_err() {
            return Err(Error::new(
                Reason::PermissionDenied,
                "only the grant's own agent or an operator may revoke it",
            ));
        }
        self.revoke(context, claims.jti, Some(session), &claims.jti)
            .await
    }

    /// Ends a grant, as an operator. Twice succeeds.
    ///
    /// # Errors
    /// `GRANT_NOT_FOUND`.
    pub async fn revoke_one(
        &self,
        context: Context,
        grant_id: GrantId,
        comment: &str,
    ) -> Result<Revoked> {
        self.revoke(context, grant_id, None, &(grant_id, comment))
            .await
    }

    async fn revoke(
        &self,
        context: Context,
        grant_id: GrantId,
        session: Option<Arc<Session>>,
        asked: &(impl Serialize + Sync),
    ) -> Result<Revoked> {
        let key = context.request_key(&self.ambient, METHOD, asked)?;
        self.revocations
            .call(Request {
                context,
                session,
                grant_id,
                key,
            })
            .await
    }
}

pub(super) struct Request {
    context: Context,
    /// `None`: an operator.
    session: Option<Arc<Session>>,
    grant_id: GrantId,
    key: RequestKey,
}

/// The batch operation, on the connections kept for revocations.
pub(super) struct Operation {
    db: Db,
    ambient: Ambient,
}

impl Operation {
    pub(super) fn new(db: Db, ambient: Ambient) -> Self {
        Self { db, ambient }
    }
}

impl batch::Operation for Operation {
    type Request = Request;
    type Reply = Revoked;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "grants.revoke", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Revoked>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin_revocation().await?;
        let keys: Vec<_> = requests
            .iter()
            .filter_map(|request| Some(request.session.as_ref()?.api_key_id))
            .collect();
        let api_keys: HashMap<_, _> = identity::api_key::lock_api_keys(&mut tx, &keys)
            .await?
            .into_iter()
            .map(|key| (key.id, key))
            .collect();
        let ids: Vec<GrantId> = requests.iter().map(|request| request.grant_id).collect();
        let mut ended_at = store::lock(&mut tx, &ids).await?;
        let records: HashMap<GrantId, GrantRecord> = store::by_ids(&mut tx, &ids)
            .await?
            .into_iter()
            .map(|record| (record.id, record))
            .collect();
        let request_keys: Vec<&RequestKey> = requests.iter().map(|request| &request.key).collect();
        let kept = store::kept_revocations(&mut tx, &request_keys).await?;

        // which requests end something; each grant only once
        let mut ending: Vec<(&Request, &GrantRecord)> = Vec::new();
        let mut results: Vec<Result<()>> = Vec::with_capacity(requests.len());
        for request in requests {
            let result = check(request, &api_keys, &records, &kept, now);
            if let Ok(record) = &result
                && !ended_at.contains_key(&record.id)
                && !ending.iter().any(|(_, other)| other.id == record.id)
            {
                ending.push((request, record));
            }
            results.push(result.map(|_| ()));
        }
        let entries: Vec<Entry> = ending
            .iter()
            .map(|(request, record)| entry(request, &record.agent_id))
            .collect();
        audit::append(&mut tx, now, &entries).await?;
        let changes: Vec<ChangeBody> = ending
            .iter()
            .filter_map(|(_, record)| change(record))
            .collect();
        let positions = events::append(&mut tx, Stream::Grants, now, &changes).await?;
        let ended: Vec<(GrantId, Position)> = ending
            .iter()
            .map(|(_, record)| record.id)
            .zip(positions)
            .collect();
        store::revoke(&mut tx, &ended, now).await?;
        ended_at.extend(ended);
        let revoked = |request: &Request| {
            Some(Revoked {
                grant_id: request.grant_id,
                position: *ended_at.get(&request.grant_id)?,
                ended: ending.iter().any(|(by, record)| {
                    std::ptr::eq(*by, request) && record.state(now) == GrantState::Active
                }),
            })
        };
        let claims: Vec<(&RequestKey, Revoked)> = requests
            .iter()
            .zip(&results)
            .filter(|(request, result)| {
                result.is_ok() && !kept.contains_key(&KeyRef::of(&request.key))
            })
            .filter_map(|(request, _)| Some((&request.key, revoked(request)?)))
            .collect();
        store::claim_revocations(&mut tx, &claims, now).await?;
        self.db.quorum.prove_by_commit(&mut tx).await?;
        let confirmation = self.db.commit_batch(tx).await?;

        let replies = requests
            .iter()
            .zip(results)
            .map(|(request, result)| {
                result?;
                if let Some((_, first)) = kept.get(&KeyRef::of(&request.key)) {
                    return Ok(*first);
                }
                revoked(request).ok_or_else(not_found)
            })
            .collect();
        Ok(Served {
            replies,
            confirmation,
        })
    }
}

fn check<'a>(
    request: &Request,
    api_keys: &HashMap<authguardian_proto::ids::ApiKeyId, identity::ApiKey>,
    records: &'a HashMap<GrantId, GrantRecord>,
    kept: &HashMap<KeyRef, ([u8; 32], Revoked)>,
    now: OffsetDateTime,
) -> Result<&'a GrantRecord> {
    if let Some(session) = &request.session {
        api_keys
            .get(&session.api_key_id)
            .ok_or_else(|| Error::new(Reason::ApiKeyUnknown, "this API key is not known here"))?
            .check(now)?;
    }
    if kept
        .get(&KeyRef::of(&request.key))
        .is_some_and(|(digest, _)| *digest != request.key.digest)
    {
        return Err(request.key.reused());
    }
    records
        .get(&request.grant_id)
        .filter(|record| record.granted)
        .ok_or_else(not_found)
}

fn entry(request: &Request, agent: &AgentId) -> Entry {
    let mut context = request.context.clone();
    if let Some(session) = &request.session {
        context.actor = Actor::Agent(Some(agent.clone()), session.api_key_id);
    }
    Entry::ok(context, "grant.revoke", request.grant_id.to_string()).about(agent.clone())
}

fn change(record: &GrantRecord) -> Option<ChangeBody> {
    Some(ChangeBody::GrantRevoked {
        grant_id: record.id,
        agent_id: record.agent_id.clone(),
        expires_at: record.expires_at?,
    })
}

fn not_found() -> Error {
    Error::new(Reason::GrantNotFound, "there is no such grant")
}
