//! Everything that a request passes: PostgreSQL, a control plane, and what
//! operators would set up in it.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use authguardian_proto::{
    credential::ApiKey,
    ids::{AgentId, ApiKeyId},
    network::Networks,
    rate::RateLimits,
};
use control_plane::{
    app::{self, App},
    audit::Context,
    clock::{Ambient, Entropy, SystemClock},
    config::Config,
    db::private_postgres::DATABASE,
    identity::{api_key::NewApiKey, join::NewJoinToken},
    registry::PutAgent,
};

use crate::{
    daemon::{ControlPlane, Edge, Settings},
    postgres::Postgres,
};

/// Whom all grants are for.
pub(crate) const AGENT: &str = "data_analyst";
/// What all grants are on.
pub(crate) const RESOURCE_TYPE: &str = "SAP_API";
/// The roadmap's justification.
pub(crate) const JUSTIFICATION: &str = "Q4 analysis task";
/// Longer than a section takes, so that nothing expires meanwhile.
pub(crate) const TTL_SECONDS: u32 = 3600;

/// A running control plane on a database of its own.
pub(crate) struct System {
    /// Ended before its PostgreSQL.
    pub(crate) control_plane: ControlPlane,
    /// The cluster.
    pub(crate) postgres: Postgres,
    /// A key for [`AGENT`], with the validator right.
    pub(crate) api_key: String,
    join_tokens: Vec<String>,
}

impl System {
    /// Starts it on this cluster; so many machines may join.
    pub(crate) async fn start(
        postgres: Postgres,
        machines: usize,
        settings: &[&str],
    ) -> Result<Self> {
        let master_key = postgres.dir().join("master.key");
        std::fs::write(&master_key, "07".repeat(32))?;
        let (api_key, join_tokens) = set_up(postgres.url(), &master_key, machines).await?;
        let mut all = vec![
            format!("database.url={}", postgres.url()),
            format!("identity.master_key_file={}", master_key.display()),
        ];
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let control_plane = ControlPlane::start(&all)?;
        Ok(Self {
            control_plane,
            postgres,
            api_key,
            join_tokens,
        })
    }

    /// Takes a join token that nobody has used.
    pub(crate) fn join_token(&mut self) -> Result<String> {
        self.join_tokens.pop().context("all join tokens are used")
    }

    /// An edge on a machine of its own.
    pub(crate) fn edge(&mut self) -> Result<Edge> {
        self.edge_with(&[])
    }

    /// One with settings of its own.
    pub(crate) fn edge_with(&mut self, settings: Settings) -> Result<Edge> {
        let token = self.join_token()?;
        Edge::start(self.control_plane.server()?, &token, settings)
    }

    /// A control plane in this process, on the same database.
    pub(crate) async fn app(&self) -> Result<App> {
        open(self.postgres.url(), &self.postgres.dir().join("master.key")).await
    }

    /// How many grants are in the database.
    pub(crate) async fn grants(&self) -> Result<u64> {
        let query = "SELECT count(*) FROM permission_grant WHERE decision = 'granted'";
        Ok(self.postgres.number(DATABASE, query).await?.unsigned_abs())
    }
}

/// Migrates, makes an agent and its key, and join tokens.
pub(crate) async fn set_up(
    url: &str,
    master_key: &Path,
    machines: usize,
) -> Result<(String, Vec<String>)> {
    app::migrate(url).await?;
    let app = open(url, master_key).await?;
    let agent: AgentId = AGENT.parse()?;
    let put = PutAgent {
        id: agent.clone(),
        trust: 800,
        description: String::new(),
    };
    app.agents.put(Context::system(), put).await?;
    let seed = app.ambient.entropy.bytes::<32>();
    let draft = ApiKey::new(ApiKeyId::from_uuid(app.ambient.uuid()), seed);
    let new = NewApiKey {
        name: "load".to_owned(),
        public_key: draft.public_key().context("the seed is usable")?,
        agent_ids: vec![agent],
        validator: true,
        expires_at: None,
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let key = app.identity.create_api_key(Context::system(), new).await?;
    let mut join_tokens = Vec::new();
    for number in 0..machines {
        let new = NewJoinToken {
            ttl: time::Duration::hours(1),
            ..NewJoinToken::of(format!("host-{number}").parse()?)
        };
        let (token, _) = app
            .identity
            .create_join_token(Context::system(), new)
            .await?;
        join_tokens.push(token.context("the token was told")?.to_string());
    }
    app.close().await;
    Ok((ApiKey::new(key.id, seed).expose().to_string(), join_tokens))
}

async fn open(url: &str, master_key: &Path) -> Result<App> {
    let mut config = Config::default();
    config.database.url = url.to_owned().into();
    config.identity.master_key_file = master_key.to_owned();
    let ambient = Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(Entropy::from_system()?),
    };
    Ok(App::open(&config, ambient).await?)
}
