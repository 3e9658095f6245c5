//! How a machine joins: a one-time token, made for its name, becomes a
//! certificate for its key.

use authguardian_proto::{
    backoff::network_of,
    credential,
    ids::{JoinTokenId, MachineId, MachineName},
    reason::Reason,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::{
    Identity, Terms,
    ca::RequestedKey,
    machine::{IssuedCertificate, Machine, MachineState, active_machine},
    store, terms,
};
use crate::{
    audit::{self, Actor, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// How long a token is good unless said otherwise.
pub const DEFAULT_TTL: Duration = Duration::seconds(600);

/// A join token as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: JoinTokenId,
    /// The name of the machine that may use it.
    pub machine_name: String,
    /// What that machine is to be for.
    #[serde(default)]
    pub terms: Terms,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// After this it is refused.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// `None` while unused.
    #[serde(with = "time::serde::rfc3339::option")]
    pub used_at: Option<OffsetDateTime>,
}

/// What a new token is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewJoinToken {
    /// The name of the machine that may use it.
    pub machine_name: MachineName,
    /// How long it is good.
    pub ttl: Duration,
    /// What that machine is to be for.
    pub terms: Terms,
}

impl NewJoinToken {
    /// The usual one: good for [`DEFAULT_TTL`], for a machine without limits.
    pub fn of(machine_name: MachineName) -> Self {
        Self {
            machine_name,
            ttl: DEFAULT_TTL,
            terms: Terms::default(),
        }
    }
}

/// A token with what only the server knows of it.
pub(super) struct StoredJoinToken {
    pub(super) info: JoinToken,
    pub(super) secret_hash: Vec<u8>,
    /// Who used it, with which key.
    pub(super) used_by: Option<(MachineId, Vec<u8>)>,
}

/// What a machine gets when it has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The new machine.
    pub machine_id: MachineId,
    /// The name that the token was made for.
    pub machine_name: String,
    /// Its first certificate.
    pub certificate: IssuedCertificate,
}

impl Identity {
    /// Makes a token for one machine name. The text is told once: a repeat of
    /// the request gets the listing alone.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the name is taken, or a server name is one of the
    /// control plane's own.
    pub async fn create_join_token(
        &self,
        context: Context,
        mut new: NewJoinToken,
    ) -> Result<(Option<Zeroizing<String>>, JoinToken)> {
        terms::check_names(&mut new.terms.server_names, &self.settings.server_names)?;
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.create_join_token", &new)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(info) => return Ok((None, info)),
            Begun::New(request) => request,
        };
        if store::name_is_taken(request.connection(), new.machine_name.as_str()).await? {
            return Err(Error::invalid(
                "machine_name",
                format!("a machine `{}` is enrolled already", new.machine_name),
            ));
        }
        let token = credential::JoinToken::new(
            JoinTokenId::from_uuid(self.ambient.uuid()),
            self.ambient.entropy.bytes(),
            self.keyring().ca().fingerprint(),
        );
        let info = JoinToken {
            id: token.id(),
            machine_name: new.machine_name.to_string(),
            terms: new.terms,
            created_at: now,
            expires_at: now + new.ttl,
            used_at: None,
        };
        store::insert_join_token(request.connection(), &info, &token.hash()).await?;
        let entry = Entry::ok(context, "join_token.create", info.id.to_string());
        audit::append(request.connection(), now, &[entry]).await?;
        request.finish(&info).await?;
        Ok((Some(token.expose()), info))
    }

    /// Lists tokens, newest first, before an id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_join_tokens(
        &self,
        before: Option<JoinTokenId>,
        limit: i64,
    ) -> Result<Vec<JoinToken>> {
        store::list_join_tokens(&mut *self.db.read().await?, before, limit).await
    }

    /// Enrols a machine. The same token with the same key gets the same
    /// machine again, so that a lost reply can be asked for once more.
    ///
    /// # Errors
    /// `RATE_LIMITED` after too many unknown tokens from an address,
    /// `JOIN_TOKEN_INVALID`, `JOIN_TOKEN_USED`, `MACHINE_BANNED`,
    /// `MACHINE_EVICTED`.
    pub async fn join(
        &self,
        mut context: Context,
        token: &credential::JoinToken,
        key: &RequestedKey,
    ) -> Result<Joined> {
        let now = self.ambient.clock.now();
        let source = context.peer.map(network_of);
        if let Some(source) = &source {
            self.attempts.joins.check(source, self.since_boot())?;
        }
        let mut tx = self.db.begin().await?;
        let stored = store::join_token_for_update(&mut tx, token.id())
            .await?
            .filter(|stored| verify_slices_are_equal(&stored.secret_hash, &token.hash()).is_ok())
            .ok_or_else(|| {
                if let Some(source) = &source {
                    self.attempts.joins.failed(source, self.since_boot());
                }
                Error::new(
                    Reason::JoinTokenInvalid,
                    "this join token is not known here",
                )
                .into_field()
            })?;
        let machine_name = stored.info.machine_name;
        let first_use = stored.used_by.is_none();
        let (machine_id, terms) = match stored.used_by {
            Some((machine, public_key)) if public_key == key.spki() => {
                (machine, active_machine(&mut tx, machine).await?.terms)
            }
            Some(_) => {
                return Err(Error::new(
                    Reason::JoinTokenUsed,
                    "this join token was used by another key",
                )
                .into_field());
            }
            None if stored.info.expires_at <= now => {
                return Err(Error::new(
                    Reason::JoinTokenInvalid,
                    "this join token has expired; make another",
                )
                .into_field());
            }
            None => (MachineId::from_uuid(self.ambient.uuid()), stored.info.terms),
        };
        let certificate = self.certify(machine_id, &terms, key, now)?;
        context.actor = Actor::Machine(machine_id);
        context.machine_id = Some(machine_id);
        if first_use {
            let machine = Machine {
                id: machine_id,
                name: machine_name.clone(),
                state: MachineState::Active,
                terms,
                session_generation: 0,
                created_at: now,
                certificate_expires_at: certificate.expires_at,
            };
            store::insert_machine(&mut tx, &machine, &key.spki()).await?;
            store::use_join_token(&mut tx, token.id(), machine_id, &key.spki(), now).await?;
            audit::append(
                &mut tx,
                now,
                &[Entry::ok(context, "machine.join", machine_id.to_string())],
            )
            .await?;
            let change = ChangeBody::MachineChanged {
                machine_id,
                state: MachineState::Active.as_str().to_owned(),
            };
            events::append(&mut tx, Stream::Identity, now, &[change]).await?;
        } else {
            self.db.quorum.prove_by_commit(&mut tx).await?;
        }
        self.db.commit(tx).await?;
        Ok(Joined {
            machine_id,
            machine_name,
            certificate,
        })
    }
}

impl Error {
    fn into_field(self) -> Self {
        self.problem().clone().at("join_token").into()
    }
}
