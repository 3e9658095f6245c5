//! A control plane in this process, on a cluster of its own.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use control_plane::{
    app::{self, App},
    clock::{Ambient, Entropy, SystemClock},
    config::Config,
};

use crate::postgres::Postgres;

pub(super) struct Site {
    pub(super) app: App,
    pub(super) postgres: Postgres,
}

impl Site {
    pub(super) async fn start() -> Result<Self> {
        let postgres = Postgres::start().await?;
        let master_key = postgres.dir().join("master.key");
        std::fs::write(&master_key, "07".repeat(32))?;
        let mut config = Config::default();
        config.database.url = postgres.url().to_owned().into();
        config.identity.master_key_file = master_key;
        app::migrate(config.database.url.expose()).await?;
        let ambient = Ambient {
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(Entropy::from_system().context("no randomness")?),
        };
        let app = App::open(&config, ambient).await?;
        Ok(Self { app, postgres })
    }

    pub(super) async fn stop(self) -> Result<()> {
        self.app.close().await;
        Ok(())
    }
}
