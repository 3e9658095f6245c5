//! API keys of agents: an Ed25519 seed at their holder, the public key here.

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
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
            .ok_or_else(|| {
                Problem::new(Reason::ApiKeyUnknown, format!("there is no API key `{id}`"))
                    .at("api_key_id")
            })?;
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
