//! API keys of agents: an Ed25519 seed at their holder, the public key here.

use std::collections::BTreeMap;

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    network::Networks,
    rate::{RateLimit, RateLimits},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Identity, store};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// For people.
    pub name: String,
    /// Ed25519, 32 bytes.
    pub public_key: [u8; 32],
    /// Agents that it may speak for.
    pub agent_ids: Vec<AgentId>,
    /// Whether it may check tokens of other agents.
    pub validator: bool,
    /// When it was registered.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// `None`: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// `None`: not revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// How often it may be used.
    #[serde(default)]
    pub rate_limits: RateLimits,
    /// Where it may be used from; none: anywhere.
    #[serde(default)]
    pub allowed_networks: Networks,
}

/// What a new key is to be.
#[derive(Debug, Clone, Serialize)]
pub struct NewApiKey {
    /// For people.
    pub name: String,
    /// Ed25519, 32 bytes.
    pub public_key: [u8; 32],
    /// Agents that it may speak for, 1 to 100.
    pub agent_ids: Vec<AgentId>,
    /// Whether it may check tokens of other agents.
    pub validator: bool,
    /// `None`: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// How often it may be used.
    pub rate_limits: RateLimits,
    /// Where it may be used from, at most 100; none: anywhere.
    pub allowed_networks: Networks,
}

/// A limit, or that there is to be none.
pub type MaybeLimit = Option<RateLimit>;

/// What is to become of a key's limits; what is `None`, or not named, stays.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KeyChanges {
    /// The limit of all calls; `Some(None)`: there is to be none.
    pub rate_limit: Option<MaybeLimit>,
    /// Limits of single tools, by name; `None`: there is to be none.
    pub tool_rate_limits: BTreeMap<String, MaybeLimit>,
    /// Where it may be used from, at most 100; none: anywhere.
    pub allowed_networks: Option<Networks>,
}

impl KeyChanges {
    /// Whether nothing is to change.
    pub fn are_none(&self) -> bool {
        self.rate_limit.is_none()
            && self.tool_rate_limits.is_empty()
            && self.allowed_networks.is_none()
    }

    fn apply(self, key: &mut ApiKey) {
        if let Some(limit) = self.rate_limit {
            key.rate_limits.all = limit;
        }
        for (tool, limit) in self.tool_rate_limits {
            match limit {
                Some(limit) => key.rate_limits.tools.insert(tool, limit),
                None => key.rate_limits.tools.remove(&tool),
            };
        }
        if let Some(networks) = self.allowed_networks {
            key.allowed_networks = networks;
        }
    }
}

impl ApiKey {
    /// Whether it counts now.
    ///
    /// # Errors
    /// `API_KEY_REVOKED`, `API_KEY_EXPIRED`.
    pub fn check(&self, now: OffsetDateTime) -> Result<()> {
        if self.revoked_at.is_some() {
            return Err(Error::new(
                Reason::ApiKeyRevoked,
                "this API key was revoked",
            ));
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::new(
                Reason::ApiKeyExpired,
                "this API key has expired",
            ));
        }
        Ok(())
    }
}

impl Identity {
    /// Registers a public key.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the public key is registered already or is none.
    pub async fn create_api_key(&self, context: Context, new: NewApiKey) -> Result<ApiKey> {
        let now = self.ambient.clock.now();
        if new.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("expires_at", "expected a time to come"));
        }
        let key = context.request_key(&self.ambient, "identity.create_api_key", &new)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(api_key) => return Ok(api_key),
            Begun::New(request) => request,
        };
        let api_key = ApiKey {
            id: ApiKeyId::from_uuid(self.ambient.uuid()),
            name: new.name,
            public_key: new.public_key,
            agent_ids: new.agent_ids,
            validator: new.validator,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
            rate_limits: new.rate_limits,
            allowed_networks: new.allowed_networks,
        };
        store::insert_api_key(request.connection(), &api_key).await?;
        audit::append(
            request.connection(),
            now,
            &[Entry::ok(context, "api_key.create", api_key.id.to_string())],
        )
        .await?;
        request.finish(&api_key).await?;
        Ok(api_key)
    }

    /// Lists keys, newest first, before an id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_api_keys(&self, before: Option<ApiKeyId>, limit: i64) -> Result<Vec<ApiKey>> {
        store::list_api_keys(&mut *self.db.read().await?, before, limit).await
    }

    /// One key.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN` (`api_key_id`).
    pub async fn get_api_key(&self, id: ApiKeyId) -> Result<ApiKey> {
        let mut connection = self.db.read().await?;
        let found = store::api_keys(&mut connection, &[id]).await?.pop();
        found.ok_or_else(|| no_such_key(id))
    }

    /// Changes the limits of a key; edges make its sessions anew.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN` (`api_key_id`), `API_KEY_REVOKED`.
    pub async fn update_api_key(
        &self,
        context: Context,
        id: ApiKeyId,
        changes: KeyChanges,
    ) -> Result<ApiKey> {
        let now = self.ambient.clock.now();
        let asked = (id, &changes);
        let key = context.request_key(&self.ambient, "identity.update_api_key", &asked)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(api_key) => return Ok(api_key),
            Begun::New(request) => request,
        };
        let mut api_key = store::api_key_for_update(request.connection(), id)
            .await?
            .ok_or_else(|| no_such_key(id))?;
        if api_key.revoked_at.is_some() {
            return Err(Error::new(
                Reason::ApiKeyRevoked,
                "this API key was revoked",
            ));
        }
        changes.apply(&mut api_key);
        store::update_api_key(request.connection(), &api_key).await?;
        audit::append(
            request.connection(),
            now,
            &[Entry::ok(context, "api_key.update", id.to_string())],
        )
        .await?;
        let change = ChangeBody::ApiKeyChanged { api_key_id: id };
        events::append(request.connection(), Stream::Identity, now, &[change]).await?;
        request.finish(&api_key).await?;
        Ok(api_key)
    }

    /// Ends a key and its sessions. Revoking twice succeeds.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN` (`api_key_id`).
    pub async fn revoke_api_key(&self, context: Context, id: ApiKeyId) -> Result<ApiKey> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.revoke_api_key", &id)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(api_key) => return Ok(api_key),
            Begun::New(request) => request,
        };
        let api_key = store::revoke_api_key(request.connection(), id, now)
            .await?
            .ok_or_else(|| no_such_key(id))?;
        audit::append(
            request.connection(),
            now,
            &[Entry::ok(context, "api_key.revoke", id.to_string())],
        )
        .await?;
        let change = ChangeBody::ApiKeyRevoked { api_key_id: id };
        events::append(request.connection(), Stream::Identity, now, &[change]).await?;
        request.finish(&api_key).await?;
        Ok(api_key)
    }
}

/// Keys by id, share-locked until the transaction ends, in key order.
///
/// # Errors
/// When the database refuses.
pub async fn lock_api_keys(connection: &mut PgConnection, ids: &[ApiKeyId]) -> Result<Vec<ApiKey>> {
    store::api_keys_for_share(connection, ids).await
}

fn no_such_key(id: ApiKeyId) -> Error {
    Problem::new(Reason::ApiKeyUnknown, format!("there is no API key `{id}`"))
        .at("api_key_id")
        .into()
}

pub(super) fn unknown() -> Error {
    Error::new(Reason::ApiKeyUnknown, "this API key is not known here")
}

/// Keys by id, as the connection sees them.
///
/// # Errors
/// When the database refuses.
pub async fn api_keys(connection: &mut PgConnection, ids: &[ApiKeyId]) -> Result<Vec<ApiKey>> {
    store::api_keys(connection, ids).await
}
