//! Who is who: our own keys, machines, API keys and their sessions, admins.

pub mod admin;
pub mod api_key;
pub mod ca;
pub mod join;
pub mod keyring;
pub mod machine;
pub mod seal;
pub mod session;
mod store;

use std::sync::Arc;

pub use admin::{AdminToken, Role};
pub use api_key::ApiKey;
pub use join::JoinToken;
pub use keyring::Keyring;
pub use machine::Machine;
pub use session::Session;

use crate::{clock::Ambient, db::Db, error::Result};

/// What identity needs to know of the installation.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in certificates and tokens.
    pub trust_domain: String,
    /// DNS names and addresses that servers' certificates carry.
    pub server_names: Vec<String>,
    /// How long certificates of machines live.
    pub certificate_ttl: time::Duration,
}

/// The identity service.
#[derive(Debug, Clone)]
pub struct Identity {
    db: Db,
    ambient: Ambient,
    settings: Arc<Settings>,
    keyring: Arc<Keyring>,
    sessions: Arc<session::Cache>,
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
        master: &seal::MasterKey,
    ) -> Result<Self> {
        let keyring = Keyring::open(&db, &ambient, &settings, master).await?;
        Ok(Self {
            db,
            ambient,
            settings: Arc::new(settings),
            keyring: Arc::new(keyring),
            sessions: Arc::default(),
        })
    }

    /// Our own keys.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
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
