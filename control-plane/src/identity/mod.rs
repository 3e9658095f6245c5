//! Who is who: our own keys, machines, API keys and their sessions, admins.

pub mod admin;
pub mod admin_certificate;
pub mod api_key;
mod attempts;
mod bootstrap;
pub mod ca;
mod checkpoint_keys;
pub mod join;
mod jwks;
pub mod keyring;
pub mod machine;
pub mod membership;
pub mod rates;
mod reload;
pub mod report;
pub mod reseal;
pub mod restored;
mod rotate;
pub mod seal;
pub mod session;
pub mod signing_key;
mod standing;
mod store;
pub mod suspension;
pub mod terms;
mod trust_bundle;

use std::sync::{Arc, atomic::AtomicBool};

pub use admin::{AdminToken, Role};
pub use admin_certificate::AdminCertificate;
pub use api_key::ApiKey;
use arc_swap::ArcSwap;
pub use join::JoinToken;
pub use keyring::Keyring;
pub use machine::Machine;
pub use session::Session;
pub use signing_key::{KeyState, Purpose, SigningKey};
pub use standing::Standings;
pub use suspension::Suspension;
pub use terms::{ServerName, Serves, Terms, TermsChange};
use time::OffsetDateTime;
use tokio::sync::watch;
pub use trust_bundle::TrustBundle;

use crate::{
    clock::{Ambient, SharedClock},
    db::{Db, batch::Batcher},
    error::Result,
};

/// What identity needs to know of the installation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in certificates and tokens.
    pub trust_domain: String,
    /// DNS names and addresses that servers' certificates carry.
    pub server_names: Vec<String>,
    /// How long certificates of machines live.
    pub certificate_ttl: time::Duration,
    /// How long a signing key is published before it may sign.
    pub key_publication: time::Duration,
}

/// The identity service.
#[derive(Debug, Clone)]
pub struct Identity {
    db: Db,
    ambient: Ambient,
    settings: Arc<Settings>,
    master: Arc<seal::MasterKeys>,
    keyring: Arc<ArcSwap<Keyring>>,
    keyring_changed: watch::Sender<()>,
    keys_unopened: Arc<AtomicBool>,
    ended: Arc<session::Ended>,
    reloads: Batcher<reload::Reload>,
    lookups: Batcher<reload::Lookup>,
    attempts: Arc<attempts::Attempts>,
    standings: Arc<ArcSwap<standing::Standings>>,
    standings_changed: watch::Sender<()>,
    standing_reloads: Batcher<standing::Reload>,
    admin_checks: Batcher<admin::Check>,
}

impl Identity {
    /// Opens the service: makes CA and signing keys at the first start, else
    /// opens them with the master key.
    ///
    /// # Errors
    /// When the master key does not open the stored keys; it never makes new
    /// ones instead.
    pub async fn open(
        db: Db,
        ambient: Ambient,
        settings: Settings,
        master: seal::MasterKeys,
    ) -> Result<Self> {
        let keyring = Keyring::open(&db, &ambient, &settings, &master).await?;
        let (master, keyring) = (Arc::new(master), Arc::new(ArcSwap::from_pointee(keyring)));
        let keyring_changed = watch::Sender::new(());
        let keys_unopened = Arc::<AtomicBool>::default();
        let reloads = Batcher::spawn(reload::Reload {
            db: db.clone(),
            master: Arc::clone(&master),
            keyring: Arc::clone(&keyring),
            changed: keyring_changed.clone(),
            unopened: Arc::clone(&keys_unopened),
        });
        let lookups = Batcher::spawn(reload::Lookup::new(ambient.clone(), reloads.clone()));
        let standings = store::standings(&mut *db.read().await?).await?;
        let standings = Arc::new(ArcSwap::from_pointee(standings));
        let standings_changed = watch::Sender::new(());
        let standing_reloads = Batcher::spawn(standing::Reload {
            db: db.clone(),
            standings: Arc::clone(&standings),
            changed: standings_changed.clone(),
        });
        let admin_checks = Batcher::spawn(admin::Check::new(db.clone(), ambient.clone()));
        Ok(Self {
            db,
            ambient,
            settings: Arc::new(settings),
            master,
            keyring,
            keyring_changed,
            keys_unopened,
            ended: Arc::default(),
            reloads,
            lookups,
            attempts: Arc::new(attempts::Attempts::new()),
            standings,
            standings_changed,
            standing_reloads,
            admin_checks,
        })
    }

    /// Our own keys, as they were read last.
    pub fn keyring(&self) -> Arc<Keyring> {
        self.keyring.load_full()
    }

    /// Tells when [`Identity::keyring`] is another one.
    pub fn keyring_changes(&self) -> watch::Receiver<()> {
        self.keyring_changed.subscribe()
    }

    /// The clock that certificates and tokens are judged by.
    pub fn clock(&self) -> SharedClock {
        self.ambient.clock.clone()
    }

    /// The time.
    pub fn now(&self) -> OffsetDateTime {
        self.ambient.clock.now()
    }

    /// The steady clock, for measuring how long something took.
    pub fn since_boot(&self) -> std::time::Duration {
        self.ambient.clock.since_boot()
    }

    /// The installation's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
