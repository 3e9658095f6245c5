//! Rotation of our own keys, as operators do it, and what is taken out of the
//! published keys by itself.

use authguardian_proto::{
    ids::SigningKeyId,
    reason::{Problem, Reason},
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    Identity, SigningKey,
    ca::{self, Ca},
    keyring::{Cross, StoredKey, generate_ed25519},
    signing_key::{KeyState, Purpose, whole_seconds},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

impl Identity {
    /// Lists our keys, oldest first, those of the past included. `None`: of
    /// all purposes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list_signing_keys(&self, purpose: Option<Purpose>) -> Result<Vec<SigningKey>> {
        let mut keys = store::signing_keys(&mut *self.db.read().await?).await?;
        keys.retain(|key| purpose.is_none_or(|purpose| key.purpose == purpose));
        Ok(keys)
    }

    /// Seconds until a key may be activated without force, begun ones counted
    /// as whole.
    pub fn publication_seconds_left(&self, key: &SigningKey) -> i64 {
        let now = self.ambient.clock.now();
        whole_seconds(key.publication_left(now, self.settings.key_publication))
    }

    /// Makes a key and publishes it; it does not sign yet.
    ///
    /// # Errors
    /// `REVISION_CONFLICT` when one is prepared already.
    pub async fn prepare_signing_key(
        &self,
        context: Context,
        purpose: Purpose,
    ) -> Result<SigningKey> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.prepare_signing_key", &purpose)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(key) => return Ok(key),
            Begun::New(request) => request,
        };
        store::lock_own_keys(request.connection()).await?;
        let waiting = store::signing_keys(request.connection())
            .await?
            .into_iter()
            .find(|key| key.purpose == purpose && key.state == KeyState::Prepared);
        if let Some(waiting) = waiting {
            return Err(Problem::new(
                Reason::RevisionConflict,
                format!(
                    "key `{}` is prepared already; activate or retire it first",
                    waiting.id
                ),
            )
            .at("purpose")
            .into());
        }
        let id = SigningKeyId::from_uuid(self.ambient.uuid());
        let made = SigningKey::prepared(id, purpose, now);
        let fresh = match purpose {
            Purpose::Ca => self.next_ca(request.connection(), now).await?,
            Purpose::Grant | Purpose::Session | Purpose::Audit => {
                let (public, secret) = generate_ed25519(&self.ambient)?;
                Fresh {
                    public,
                    secret,
                    cross: None,
                }
            }
        };
        let stored = StoredKey {
            id,
            purpose,
            state: made.state,
            public: fresh.public,
            sealed: self.master.seal(id, &fresh.secret)?,
            cross: fresh.cross,
        };
        store::insert_own_key(request.connection(), &made, &stored).await?;
        let entry = Entry::ok(context, "signing_key.prepare", id.to_string());
        tell(request.connection(), now, &[entry]).await?;
        request.finish(&made).await?;
        self.reload_soon().await;
        Ok(made)
    }

    /// Lets a prepared key sign in place of the active one, which is retired
    /// and returned second. `force`: although not everybody can know it yet.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `REVISION_CONFLICT` (`key_id`) when it is not prepared
    /// or was not published for long enough.
    pub async fn activate_signing_key(
        &self,
        context: Context,
        id: SigningKeyId,
        force: bool,
    ) -> Result<(SigningKey, Option<SigningKey>)> {
        let now = self.ambient.clock.now();
        let asked = (id, force);
        let key = context.request_key(&self.ambient, "identity.activate_signing_key", &asked)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(keys) => return Ok(keys),
            Begun::New(request) => request,
        };
        store::lock_own_keys(request.connection()).await?;
        let mut keys = store::signing_keys(request.connection()).await?;
        let mut chosen = take(&mut keys, id)?;
        chosen.activate(now, self.settings.key_publication, force)?;
        let retired = keys
            .into_iter()
            .find(|key| key.purpose == chosen.purpose && key.state == KeyState::Active);
        let mut entries = Vec::new();
        let retired = match retired {
            Some(mut active) => {
                active.supersede(now, self.settings.certificate_ttl);
                store::update_own_key(request.connection(), &active).await?;
                let subject = active.id.to_string();
                entries.push(Entry::ok(context.clone(), "signing_key.retire", subject));
                Some(active)
            }
            None => None,
        };
        store::update_own_key(request.connection(), &chosen).await?;
        entries.push(Entry::ok(context, "signing_key.activate", id.to_string()));
        tell(request.connection(), now, &entries).await?;
        let outcome = (chosen, retired);
        request.finish(&outcome).await?;
        self.reload_soon().await;
        Ok(outcome)
    }

    /// Gives up a prepared key, or with `force` refuses all that a retired one
    /// has signed at once. Retiring a retired key again succeeds.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `REVISION_CONFLICT` (`key_id`) when it is active.
    pub async fn retire_signing_key(
        &self,
        context: Context,
        id: SigningKeyId,
        force: bool,
    ) -> Result<SigningKey> {
        let now = self.ambient.clock.now();
        let asked = (id, force);
        let key = context.request_key(&self.ambient, "identity.retire_signing_key", &asked)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(key) => return Ok(key),
            Begun::New(request) => request,
        };
        store::lock_own_keys(request.connection()).await?;
        let mut keys = store::signing_keys(request.connection()).await?;
        let mut key = take(&mut keys, id)?;
        let action = match key.state {
            KeyState::Retired => "signing_key.drop",
            _ => "signing_key.retire",
        };
        if key.retire(now, force)? {
            store::update_own_key(request.connection(), &key).await?;
            let entry = Entry::ok(context, action, id.to_string());
            tell(request.connection(), now, &[entry]).await?;
        }
        request.finish(&key).await?;
        self.reload_soon().await;
        Ok(key)
    }

    /// Takes retired keys, when the last of what they signed has ended, out of the published
    /// ones; returns how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn drop_retired_keys(&self) -> Result<u64> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let dropped = store::drop_retired_keys(&mut tx, now).await?;
        if dropped.is_empty() {
            return Ok(0);
        }
        let context = Context::system();
        let entries: Vec<_> = dropped
            .iter()
            .map(|id| Entry::ok(context.clone(), "signing_key.drop", id.to_string()))
            .collect();
        tell(&mut tx, now, &entries).await?;
        self.db.commit(tx).await?;
        self.reload_soon().await;
        Ok(dropped.len() as u64)
    }

    /// A CA to follow the active one, which vouches for it.
    async fn next_ca(&self, connection: &mut PgConnection, now: OffsetDateTime) -> Result<Fresh> {
        let keys = store::own_keys(connection).await?;
        let active = keys
            .iter()
            .find(|key| key.purpose == Purpose::Ca && key.state == KeyState::Active)
            .ok_or_else(|| Error::internal("no active `ca` key is stored"))?;
        let secret = self.master.open(active.id, &active.sealed)?;
        let before = Ca::load(active.public.clone(), &secret)?;
        let (trust_domain, entropy) = (&self.settings.trust_domain, &self.ambient.entropy);
        let (certificate, secret) = ca::generate(trust_domain, entropy, now)?;
        let next = Ca::load(certificate.to_vec(), &secret)?;
        let cross = before.vouch_for(&next, trust_domain, entropy, now)?;
        Ok(Fresh {
            public: certificate.to_vec(),
            secret,
            cross: Some(Cross {
                certificate: cross.to_vec(),
                by: active.id,
            }),
        })
    }

    /// What was done stands, whether this process can read it back now or only
    /// with its next look.
    pub(super) async fn reload_soon(&self) {
        if let Err(error) = self.reload_keys().await {
            tracing::warn!(%error, "the signing keys cannot be read again now");
        }
    }
}

/// A key that was just made.
struct Fresh {
    public: Vec<u8>,
    secret: Zeroizing<Vec<u8>>,
    cross: Option<Cross>,
}

/// The key of this id.
fn take(keys: &mut Vec<SigningKey>, id: SigningKeyId) -> Result<SigningKey> {
    let found = keys.iter().position(|key| key.id == id).ok_or_else(|| {
        Error::from(
            Problem::new(Reason::KeyNotFound, format!("there is no key `{id}`")).at("key_id"),
        )
    })?;
    Ok(keys.swap_remove(found))
}

/// Audit entries, and the change that lets everybody read the keys again.
async fn tell(connection: &mut PgConnection, now: OffsetDateTime, entries: &[Entry]) -> Result<()> {
    audit::append(&mut *connection, now, entries).await?;
    let changes = [ChangeBody::SigningKeysChanged];
    events::append(connection, Stream::Identity, now, &changes).await?;
    Ok(())
}
