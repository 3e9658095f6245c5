//! Our own keys, opened: the CA, and what signs grant and session tokens.

use authguardian_proto::{
    checkpoint::CheckpointSigner,
    grant_token::{GrantSigner, KeySet},
    ids::SigningKeyId,
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::{Ed25519KeyPair, KeyPair},
};
use jsonwebtoken::{DecodingKey, EncodingKey};
use rustls_pki_types::CertificateDer;
use sqlx::PgConnection;
use std::sync::Arc;
use zeroize::Zeroizing;

use super::{
    Settings,
    ca::{self, Ca, LONGEST_CROSSING},
    seal::{MasterKeys, Sealed},
    session,
    signing_key::{KeyState, Purpose, SigningKey},
    store,
};
use crate::{
    clock::Ambient,
    db::Db,
    error::{Error, Result},
};

/// A key that counts, as it lies in the database.
pub(super) struct StoredKey {
    pub(super) id: SigningKeyId,
    pub(super) purpose: Purpose,
    pub(super) state: KeyState,
    /// The CA's certificate (DER), or an Ed25519 public key.
    pub(super) public: Vec<u8>,
    pub(super) sealed: Sealed,
    pub(super) cross: Option<Cross>,
}

/// How a CA was vouched for by the one before it.
pub(super) struct Cross {
    /// DER.
    pub(super) certificate: Vec<u8>,
    pub(super) by: SigningKeyId,
}

/// A key that signs tokens.
pub struct Signer {
    /// The `kid`.
    pub id: SigningKeyId,
    /// Ed25519, PKCS #8.
    pub key: EncodingKey,
    /// The same, read for signing many grant tokens.
    pub grants: GrantSigner,
}

/// All of our keys that count, as they were read. Never changed: another
/// reading makes another ring.
pub struct Keyring {
    /// What was read, by id.
    states: Vec<(SigningKeyId, KeyState)>,
    secrets: Arc<Secrets>,
    trusted: Trusted,
    /// Those that were checked with these keys.
    pub(super) sessions: session::Cache,
}

/// What signs, opened with the master key.
struct Secrets {
    ca_id: SigningKeyId,
    ca: Ca,
    presented_authority: Vec<CertificateDer<'static>>,
    grant: Signer,
    session: Signer,
    audit: Arc<CheckpointSigner>,
}

/// What is trusted; that takes no master key.
struct Trusted {
    ca_certificates: Vec<CertificateDer<'static>>,
    grant_keys: KeySet,
    session_keys: Vec<(SigningKeyId, DecodingKey)>,
}

impl Trusted {
    fn of<'a>(keys: impl Iterator<Item = &'a StoredKey>) -> Result<Self> {
        let mut trusted = Self {
            ca_certificates: Vec::new(),
            grant_keys: KeySet::default(),
            session_keys: Vec::new(),
        };
        for key in keys {
            match key.purpose {
                Purpose::Ca => {
                    let certificate = CertificateDer::from(key.public.clone());
                    trusted.ca_certificates.push(certificate);
                }
                Purpose::Grant => trusted.grant_keys.insert(key.id, &ed25519_public(key)?),
                Purpose::Session => {
                    let public = DecodingKey::from_ed_der(&ed25519_public(key)?);
                    trusted.session_keys.push((key.id, public));
                }
                // who checks checkpoints brings the keys along
                Purpose::Audit => {}
            }
        }
        Ok(trusted)
    }
}

impl Keyring {
    /// Opens the stored keys, making those that there never were: all of them at the very first
    /// start.
    pub(super) async fn open(
        db: &Db,
        ambient: &Ambient,
        settings: &Settings,
        master: &MasterKeys,
    ) -> Result<Self> {
        let mut tx = db.begin().await?;
        // a second control plane that starts at the same time waits here
        store::lock_own_keys(&mut tx).await?;
        let mut keys = store::own_keys(&mut tx).await?;
        let made = create_missing(&mut tx, ambient, settings, (master, &keys)).await?;
        if made {
            keys = store::own_keys(&mut tx).await?;
        }
        let keyring = Self::from_stored(&keys, master)?;
        db.commit(tx).await?;
        Ok(keyring)
    }

    /// Opens keys that were read.
    ///
    /// # Errors
    /// When one that has to be there is not, or is sealed under another master key.
    pub(super) fn from_stored(keys: &[StoredKey], master: &MasterKeys) -> Result<Self> {
        let active = |purpose: Purpose| {
            keys.iter()
                .find(|key| key.purpose == purpose && key.state == KeyState::Active)
                .ok_or_else(|| {
                    Error::internal(format!("no active `{}` key is stored", purpose.as_str()))
                })
        };
        let signer = |purpose| -> Result<Signer> {
            let stored = active(purpose)?;
            let secret = master.open(stored.id, &stored.sealed)?;
            Ok(Signer {
                id: stored.id,
                key: EncodingKey::from_ed_der(&secret),
                grants: GrantSigner::new(stored.id, &secret)
                    .ok_or_else(|| Error::internal(format!("key {} is no key", stored.id)))?,
            })
        };
        let ca = active(Purpose::Ca)?;
        let audit = active(Purpose::Audit)?;
        let audit = CheckpointSigner::from_pkcs8(&master.open(audit.id, &audit.sealed)?)
            .ok_or_else(|| Error::internal(format!("key {} is no key", audit.id)))?;
        Ok(Self {
            states: states(keys).collect(),
            secrets: Arc::new(Secrets {
                ca_id: ca.id,
                ca: Ca::load(ca.public.clone(), &master.open(ca.id, &ca.sealed)?)?,
                presented_authority: presented(ca, keys),
                grant: signer(Purpose::Grant)?,
                session: signer(Purpose::Session)?,
                audit: Arc::new(audit),
            }),
            trusted: Trusted::of(keys.iter())?,
            sessions: session::Cache::default(),
        })
    }

    /// What is left of this ring where the keys that count now cannot be
    /// opened: it signs as before, and trusts nothing that counts no more.
    /// `None` when all that it trusts still counts.
    ///
    /// # Errors
    /// When a stored public key is none.
    pub(super) fn without_dropped(&self, stored: &[StoredKey]) -> Result<Option<Self>> {
        let counts = |id| stored.iter().any(|key| key.id == id);
        if self.states.iter().all(|(id, _)| counts(*id)) {
            return Ok(None);
        }
        let held = |id| self.states.iter().any(|(known, _)| *known == id);
        let mut states = self.states.clone();
        states.retain(|(id, _)| counts(*id));
        Ok(Some(Self {
            states,
            secrets: Arc::clone(&self.secrets),
            trusted: Trusted::of(stored.iter().filter(|key| held(key.id)))?,
            sessions: session::Cache::default(),
        }))
    }

    /// Whether these are the keys that it was made of.
    pub(super) fn is_of(&self, keys: &[StoredKey]) -> bool {
        states(keys).eq(self.states.iter().copied())
    }

    /// The CA in use.
    pub fn ca(&self) -> &Ca {
        &self.secrets.ca
    }

    pub(super) fn ca_id(&self) -> SigningKeyId {
        self.secrets.ca_id
    }

    /// Every CA certificate that peers are to trust.
    pub fn ca_certificates(&self) -> &[CertificateDer<'static>] {
        &self.trusted.ca_certificates
    }

    /// What servers present after their own certificate: for who trusts only a
    /// CA of before, by which steps it leads to this one, and all of these CAs
    /// themselves, since join tokens name theirs by fingerprint.
    pub fn presented_authority(&self) -> &[CertificateDer<'static>] {
        &self.secrets.presented_authority
    }

    /// Signs grant tokens.
    pub fn grant_signer(&self) -> &Signer {
        &self.secrets.grant
    }

    /// Checks grant tokens.
    pub fn grant_keys(&self) -> &KeySet {
        &self.trusted.grant_keys
    }

    /// Signs checkpoints of the audit log.
    pub(super) fn audit_signer(&self) -> Arc<CheckpointSigner> {
        Arc::clone(&self.secrets.audit)
    }

    pub(super) fn session_signer(&self) -> &Signer {
        &self.secrets.session
    }

    pub(super) fn session_key(&self, kid: SigningKeyId) -> Option<&DecodingKey> {
        self.trusted
            .session_keys
            .iter()
            .find(|(id, _)| *id == kid)
            .map(|(_, key)| key)
    }
}

/// Makes a key for each purpose that has no active one; returns whether there was any.
async fn create_missing(
    connection: &mut PgConnection,
    ambient: &Ambient,
    settings: &Settings,
    (master, keys): (&MasterKeys, &[StoredKey]),
) -> Result<bool> {
    let now = ambient.clock.now();
    let has = |purpose| {
        let mut active = keys.iter().filter(|key| key.state == KeyState::Active);
        active.any(|key| key.purpose == purpose)
    };
    // a database without one of the first three is damaged, and not new
    let missing = Purpose::ALL
        .into_iter()
        .filter(|purpose| keys.is_empty() || *purpose == Purpose::Audit && !has(*purpose));
    let mut made = false;
    for purpose in missing {
        let id = SigningKeyId::from_uuid(ambient.uuid());
        let (public, secret) = match purpose {
            Purpose::Ca => {
                let (certificate, key) =
                    ca::generate(&settings.trust_domain, &ambient.entropy, now)?;
                (certificate.to_vec(), key)
            }
            Purpose::Grant | Purpose::Session | Purpose::Audit => generate_ed25519(ambient)?,
        };
        let key = SigningKey::first(id, purpose, now);
        let stored = StoredKey {
            id,
            purpose,
            state: key.state,
            public,
            sealed: master.seal(id, &secret)?,
            cross: None,
        };
        store::insert_own_key(connection, &key, &stored).await?;
        made = true;
    }
    Ok(made)
}

/// See [`Keyring::presented_authority`]; steps to CAs that count no more end it.
fn presented(active: &StoredKey, keys: &[StoredKey]) -> Vec<CertificateDer<'static>> {
    let (mut steps, mut authorities) = (Vec::new(), vec![&active.public]);
    let mut next = active;
    while let Some(cross) = &next.cross
        && let Some(before) = keys.iter().find(|key| key.id == cross.by)
        && steps.len() < usize::from(LONGEST_CROSSING)
    {
        steps.push(&cross.certificate);
        authorities.push(&before.public);
        next = before;
    }
    let all = steps.into_iter().chain(authorities);
    all.map(|der| CertificateDer::from(der.clone())).collect()
}

fn states(keys: &[StoredKey]) -> impl Iterator<Item = (SigningKeyId, KeyState)> {
    keys.iter().map(|key| (key.id, key.state))
}

/// Makes a key that signs tokens: its public key, and its secret as PKCS #8.
pub(super) fn generate_ed25519(ambient: &Ambient) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>)> {
    let seed = Zeroizing::new(ambient.entropy.bytes::<32>());
    let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(Error::internal)?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(Error::internal)?;
    Ok((
        pair.public_key().as_ref().to_vec(),
        Zeroizing::new(pkcs8.as_ref().to_vec()),
    ))
}

fn ed25519_public(key: &StoredKey) -> Result<[u8; 32]> {
    key.public
        .as_slice()
        .try_into()
        .map_err(|_| Error::internal(format!("key {} is not 32 bytes", key.id)))
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Keyring(grant {}, session {})",
            self.secrets.grant.id, self.secrets.session.id
        )
    }
}
