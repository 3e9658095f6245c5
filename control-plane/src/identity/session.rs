//! Sessions: an API key proved once at one machine, then carried by a signed
//! token (EdDSA JWT, `typ: session+jwt`) that is good at that machine only.

use authguardian_proto::{
    credential::{login_message, sha256},
    grant_token::MAX_TOKEN_LEN,
    ids::{AgentId, ApiKeyId, MachineId, SessionId, SigningKeyId},
    network::Networks,
    rate::RateLimits,
    reason::Reason,
    zone::Zone,
};
use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

use super::{
    ApiKey, Identity, Keyring,
    api_key::unknown,
    machine::{active_machine, read_active},
    store,
};
use crate::{
    audit::{self, Actor, Context, Entry},
    error::{Error, Result},
    events,
};

mod end;
mod renew;

pub(super) use end::Ended;

/// How long a session lives, if it is not renewed.
pub const SESSION_TTL: Duration = Duration::minutes(15);

/// How long a nonce may wait for its signature.
pub const NONCE_TTL: Duration = Duration::seconds(60);

const SESSION_TYP: &str = "session+jwt";

/// A proved API key at one machine; what a session token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    iss: String,
    /// The session.
    pub jti: SessionId,
    /// The key that was proved.
    #[serde(rename = "sub")]
    pub api_key_id: ApiKeyId,
    /// Agents that it may speak for.
    pub agents: Vec<AgentId>,
    /// Whether it may check tokens of other agents.
    pub validator: bool,
    /// The only machine that it is good at.
    pub machine: MachineId,
    /// Where the agent reached that machine from.
    pub zone: Zone,
    /// How often the machine's sessions had been ended when it was made.
    #[serde(rename = "mgn", default)]
    pub(super) machine_generation: i64,
    /// The database's when it was made: a restore ends what is older than it.
    #[serde(rename = "ep", default)]
    pub(super) epoch: i64,
    /// When the key was proved, seconds since 1970: renewals keep it.
    #[serde(default)]
    auth_time: i64,
    iat: i64,
    /// When it ends, seconds since 1970.
    pub exp: i64,
}

impl Session {
    /// Whether it may act as this agent.
    ///
    /// # Errors
    /// `AGENT_MISMATCH` (`agent_id`).
    pub fn speaks_for(&self, agent: &AgentId) -> Result<()> {
        if self.agents.contains(agent) {
            return Ok(());
        }
        Err(authguardian_proto::reason::Problem::new(
            Reason::AgentMismatch,
            format!("this API key may not speak for agent `{agent}`"),
        )
        .at("agent_id")
        .into())
    }

    /// When it ends.
    pub fn expires_at(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.exp).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// What a login comes to.
#[derive(Debug, Clone)]
pub struct MadeSession {
    /// The session as a token.
    pub token: String,
    /// What the token says.
    pub session: Arc<Session>,
    /// How often the key may be used.
    pub rate_limits: RateLimits,
    /// Where it may be used from; none: anywhere.
    pub allowed_networks: Networks,
}

/// A nonce as it lies in the database.
pub(super) struct StoredNonce {
    pub(super) api_key_id: ApiKeyId,
    pub(super) machine_id: MachineId,
    pub(super) expires_at: OffsetDateTime,
    pub(super) already_used: bool,
}

/// Sessions whose signature was checked, by SHA-256 of their token; entries
/// leave when the session has ended, and all of them with the keys that they
/// were checked with.
#[derive(Debug, Default)]
pub(super) struct Cache(papaya::HashMap<[u8; 32], Arc<Session>>);

impl Identity {
    /// Makes a nonce for one key at one machine. It locks neither, as it is the
    /// login that counts: whoever asks for ever more nonces holds up nobody.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN`, `API_KEY_REVOKED`, `API_KEY_EXPIRED`,
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub async fn create_challenge(
        &self,
        machine: MachineId,
        api_key: ApiKeyId,
    ) -> Result<([u8; 32], OffsetDateTime)> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        read_active(&mut tx, machine).await?;
        let key = store::api_keys(&mut tx, &[api_key]).await?.pop();
        key.ok_or_else(unknown)?.check(now)?;
        let nonce = self.ambient.entropy.bytes();
        let expires_at = now + NONCE_TTL;
        store::insert_nonce(&mut tx, &nonce, api_key, machine, expires_at).await?;
        self.db.commit(tx).await?;
        Ok((nonce, expires_at))
    }

    /// Trades a signed nonce for a session, which has no more than its machine
    /// may: the lesser zone, and those of the key's agents that it may serve.
    /// The nonce is spent whatever the signature.
    ///
    /// # Errors
    /// `NONCE_EXPIRED`, `NONCE_USED`, `SIGNATURE_INVALID`, `RATE_LIMITED` for
    /// wrong signatures after too many of the key at the machine,
    /// `ADDRESS_NOT_ALLOWED` beyond the key's networks, `AGENT_MISMATCH` when
    /// no agent is left, and those of the key and the machine.
    pub async fn create_session(
        &self,
        mut context: Context,
        machine: MachineId,
        api_key: ApiKeyId,
        nonce: &[u8; 32],
        signature: &[u8],
        zone: Zone,
    ) -> Result<MadeSession> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        // keys before machines, as decisions lock them
        let key = store::api_key(&mut tx, api_key).await?;
        let at = active_machine(&mut tx, machine).await?;
        let spent = store::use_nonce(&mut tx, nonce, now).await?;
        let checked = check_nonce(spent, machine, api_key, now);
        if let Err(error) = checked {
            self.db.commit(tx).await?;
            return Err(error);
        }
        let key = key.ok_or_else(unknown)?;
        key.check(now)?;
        let verified = UnparsedPublicKey::new(&ED25519, key.public_key)
            .verify(&login_message(nonce), signature);
        let (logins, source) = (&self.attempts.logins, (machine, api_key));
        if verified.is_err() {
            self.db.commit(tx).await?;
            // an edge's callers are one source here: those who sign rightly never wait
            logins.check(&source, self.since_boot())?;
            logins.failed(&source, self.since_boot());
            return Err(Error::new(
                Reason::SignatureInvalid,
                "the signature is not one of this API key over this nonce",
            ));
        }
        logins.succeeded(&source);
        if !key.allowed_networks.permit(context.peer) {
            self.db.commit(tx).await?;
            return Err(Error::new(
                Reason::AddressNotAllowed,
                "this API key may not be used from this address",
            ));
        }
        let mut agents = key.agent_ids;
        agents.retain(|agent| at.terms.agents.includes(agent));
        if agents.is_empty() {
            self.db.commit(tx).await?;
            return Err(Error::new(
                Reason::AgentMismatch,
                "this machine may serve none of the agents that this API key speaks for",
            ));
        }
        let session = Arc::new(Session {
            iss: format!("https://{}", self.settings.trust_domain),
            jti: SessionId::from_uuid(self.ambient.uuid()),
            api_key_id: api_key,
            agents,
            validator: key.validator,
            machine,
            zone: zone.min(at.terms.max_zone),
            machine_generation: at.session_generation,
            epoch: events::epoch::current(&mut tx).await?,
            auth_time: now.unix_timestamp(),
            iat: now.unix_timestamp(),
            exp: end_of(now, key.expires_at).unix_timestamp(),
        });
        context.actor = Actor::Agent(None, api_key);
        context.zone = Some(session.zone);
        audit::append(
            &mut tx,
            now,
            &[Entry::ok(
                context,
                "session.create",
                session.jti.to_string(),
            )],
        )
        .await?;
        self.db.commit(tx).await?;
        Ok(MadeSession {
            token: self.sign_session(&session)?,
            session,
            rate_limits: key.rate_limits,
            allowed_networks: key.allowed_networks,
        })
    }

    /// The session of a token, if it is good at this machine. Whether its API
    /// key still counts is checked with the act itself.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `SESSION_EXPIRED`, `MACHINE_BANNED`, `MACHINE_EVICTED`;
    /// `UNAVAILABLE` when its key is not known here and the keys cannot be read
    /// again.
    pub async fn authenticate(&self, token: &str, machine: MachineId) -> Result<Arc<Session>> {
        let now = self.ambient.clock.now().unix_timestamp();
        let hash = sha256(token.as_bytes());
        let cached = self.keyring.load().sessions.0.pin().get(&hash).cloned();
        let session = if let Some(session) = cached {
            session
        } else {
            let (keyring, session) = self.verify_session(token).await?;
            let session = Arc::new(session);
            if session.exp > now {
                keyring.sessions.0.pin().insert(hash, Arc::clone(&session));
            }
            session
        };
        if session.machine != machine {
            return Err(Error::new(
                Reason::Unauthenticated,
                "this session belongs to another machine",
            ));
        }
        if session.exp <= now {
            return Err(Error::new(
                Reason::SessionExpired,
                "this session has ended; log in again",
            ));
        }
        self.check_standing(&session)?;
        self.ended.check(session.jti)?;
        Ok(session)
    }

    /// Whether the key of a session still counts, for calls that check it in no
    /// transaction of their own.
    ///
    /// # Errors
    /// `API_KEY_UNKNOWN`, `API_KEY_REVOKED`, `API_KEY_EXPIRED`.
    pub async fn check_key(&self, session: &Session) -> Result<()> {
        let mut connection = self.db.read().await?;
        let key = self.key_of(&mut connection, session).await?;
        key.check(self.ambient.clock.now())
    }

    /// Whether a session still counts at this moment, and its key with it.
    ///
    /// # Errors
    /// `SESSION_EXPIRED`, and those of [`Identity::check_key`].
    pub async fn check_session(&self, session: &Session) -> Result<ApiKey> {
        let mut connection = self.db.read().await?;
        if store::is_session_ended(&mut connection, session.jti).await? {
            return Err(end::ended());
        }
        let key = self.key_of(&mut connection, session).await?;
        key.check(self.ambient.clock.now())?;
        Ok(key)
    }

    async fn key_of(&self, connection: &mut PgConnection, session: &Session) -> Result<ApiKey> {
        store::api_keys(connection, &[session.api_key_id])
            .await?
            .pop()
            .ok_or_else(unknown)
    }

    /// Drops ended sessions and old nonces; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget_ended(&self, limit: i64) -> Result<u64> {
        let now = self.ambient.clock.now();
        self.keyring()
            .sessions
            .0
            .pin()
            .retain(|_, session| session.exp > now.unix_timestamp());
        let mut tx = self.db.begin().await?;
        let nonces = store::delete_nonces(&mut tx, now - NONCE_TTL, limit).await?;
        let sessions = store::delete_ended_sessions(&mut tx, now - end::KEPT, limit).await?;
        self.db.commit(tx).await?;
        self.ended.forget_before(now - end::KEPT);
        Ok(nonces + sessions)
    }

    fn sign_session(&self, session: &Session) -> Result<String> {
        let keyring = self.keyring();
        let signer = keyring.session_signer();
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(SESSION_TYP.to_owned());
        header.kid = Some(signer.id.to_string());
        jsonwebtoken::encode(&header, session, &signer.key).map_err(Error::internal)
    }

    /// The session of a token, and the keys that it was checked with.
    async fn verify_session(&self, token: &str) -> Result<(Arc<Keyring>, Session)> {
        let refused = || {
            Error::new(
                Reason::Unauthenticated,
                "this is no session token of this control plane",
            )
        };
        if token.len() > MAX_TOKEN_LEN {
            return Err(refused());
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused())?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(SESSION_TYP) {
            return Err(refused());
        }
        let kid = header.kid.and_then(|kid| kid.parse().ok());
        let kid: SigningKeyId = kid.ok_or_else(refused)?;
        if self.keyring().session_key(kid).is_none() {
            self.look_for_key().await?;
        }
        let keyring = self.keyring();
        let key = keyring.session_key(kid).ok_or_else(refused)?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        // times are checked by the caller, with its own clock
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let decoded = jsonwebtoken::decode::<Session>(token, key, &validation);
        let claims = decoded.map_err(|_| refused())?.claims;
        Ok((keyring, claims))
    }
}

/// When a token that is made now ends: no later than its key.
fn end_of(now: OffsetDateTime, key_ends: Option<OffsetDateTime>) -> OffsetDateTime {
    let end = now + SESSION_TTL;
    key_ends.map_or(end, |key_ends| key_ends.min(end))
}

fn check_nonce(
    nonce: Option<StoredNonce>,
    machine: MachineId,
    api_key: ApiKeyId,
    now: OffsetDateTime,
) -> Result<()> {
    let expired = || {
        Error::new(
            Reason::NonceExpired,
            "this nonce is not known or has expired; ask for another",
        )
    };
    let nonce = nonce.ok_or_else(expired)?;
    if nonce.already_used {
        return Err(Error::new(
            Reason::NonceUsed,
            "this nonce was used already; ask for another",
        ));
    }
    if nonce.machine_id != machine || nonce.api_key_id != api_key || nonce.expires_at <= now {
        return Err(expired());
    }
    Ok(())
}
