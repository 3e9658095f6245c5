//! Checking a token at the control plane: its form and signature here, its
//! grant in the database, proved by a barrier that a whole batch shares.

use std::{collections::HashMap, sync::Arc};

use authguardian_proto::{
    grant_token::{self, GrantClaims},
    ids::{AgentId, ApiKeyId, GrantId, ResourceTypeName},
    reason::Reason,
};

use super::{GrantState, Grants, store};
use crate::{
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
    },
    error::{Error, Result},
    identity::{self, Session},
};

/// What a check found.
#[derive(Debug, Clone)]
pub struct Validation {
    /// `None`: the token is good. Else why not.
    pub refused: Option<Reason>,
    /// What the token says, where it is one of ours.
    pub claims: Option<Arc<GrantClaims>>,
}

impl Grants {
    /// Whether a token is good for an agent and a resource type, as strongly
    /// as it can be known. A bad token is a result.
    ///
    /// # Errors
    /// `AGENT_MISMATCH` when the caller is neither that agent nor a validator.
    pub async fn validate(
        &self,
        session: &Session,
        token: &str,
        agent: &AgentId,
        resource_type: &ResourceTypeName,
    ) -> Result<Validation> {
        if !session.validator {
            session.speaks_for(agent)?;
        }
        let (claims, grant) = match self.identity.verify_grant(token).await? {
            Ok(claims) => (Some(Arc::new(claims)), None),
            Err(reason) => (None, Some(reason)),
        };
        let grant_id = claims.as_ref().map(|claims| claims.jti);
        let state = self
            .validations
            .call(Request {
                api_key_id: session.api_key_id,
                grant_id,
            })
            .await?;
        let refused = match &claims {
            None => grant,
            Some(claims) => {
                let now = self.ambient.clock.now().unix_timestamp();
                let lost = claims.rev.epoch < self.identity.restored_epoch().unsigned_abs();
                grant_token::verify_claims(claims, agent, resource_type, now)
                    .err()
                    .or(match state {
                        Some(GrantState::Active) => None,
                        Some(GrantState::Revoked) => Some(Reason::GrantRevoked),
                        Some(GrantState::Expired) => Some(Reason::GrantExpired),
                        // given after the backup that the database was restored from
                        None if lost => Some(Reason::GrantRevoked),
                        Some(GrantState::Denied) | None => Some(Reason::GrantNotFound),
                    })
            }
        };
        Ok(Validation { refused, claims })
    }
}

pub(super) struct Request {
    api_key_id: ApiKeyId,
    /// `None`: the token is none of ours; only the caller is checked.
    grant_id: Option<GrantId>,
}

/// The batch operation: reads, then one barrier for all.
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
    /// What the grant is; `None` when there is none.
    type Reply = Option<GrantState>;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "grants.validate", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Request]) -> Result<Served<Option<GrantState>>> {
        let now = self.ambient.clock.now();
        let mut connection = self.db.read().await?;
        let keys: Vec<ApiKeyId> = requests.iter().map(|request| request.api_key_id).collect();
        let ids: Vec<GrantId> = requests
            .iter()
            .filter_map(|request| request.grant_id)
            .collect();
        let keys: HashMap<_, _> = identity::api_key::api_keys(&mut connection, &keys)
            .await?
            .into_iter()
            .map(|key| (key.id, key))
            .collect();
        let states = store::states(&mut connection, &ids, now).await?;
        self.db.barrier(&mut connection).await?;
        let replies = requests
            .iter()
            .map(|request| {
                keys.get(&request.api_key_id)
                    .ok_or_else(|| {
                        Error::new(Reason::ApiKeyUnknown, "this API key is not known here")
                    })?
                    .check(now)?;
                Ok(request.grant_id.and_then(|id| states.get(&id).copied()))
            })
            .collect();
        Ok(Served::now(replies))
    }
}
