//! The whole system as processes of its own, each of which can be killed and
//! started again. Nothing outlives the test, however it ends.

use std::{path::Path, sync::Arc, thread};

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
    db::private_postgres::{Options, PrivatePostgres},
    identity::{api_key::NewApiKey, join::NewJoinToken},
    registry::PutAgent,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    caller::{AGENT, Target},
    daemon::{ControlPlane, Edge},
};

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    ControlPlane,
    Edge,
    Postgres,
}

/// PostgreSQL, control planes, an edge for each, and what operators set up.
/// Dropped in this order: edges, control planes, PostgreSQL.
pub(crate) struct System {
    pub(super) edges: Vec<Edge>,
    pub(crate) control_planes: Vec<ControlPlane>,
    pub(super) postgres: Postgres,
    pub(crate) api_key: String,
    /// Of machines that have not joined.
    pub(crate) join_tokens: Vec<String>,
    _files: TempDir,
}

impl System {
    /// Starts it with so many control planes.
    pub(crate) async fn start(control_planes: usize) -> Self {
        Self::start_with_machines(control_planes, 0).await
    }

    /// So many more machines may join it.
    pub(crate) async fn start_with_machines(control_planes: usize, machines: usize) -> Self {
        let postgres = Postgres::start().await;
        let files = tempfile::tempdir().unwrap();
        let master_key = files.path().join("master.key");
        std::fs::write(&master_key, "07".repeat(32)).unwrap();
        let (api_key, mut join_tokens) =
            set_up(&postgres.url(), &master_key, control_planes + machines).await;
        let mut this = Self {
            edges: Vec::new(),
            control_planes: Vec::new(),
            postgres,
            api_key,
            join_tokens: join_tokens.split_off(control_planes),
            _files: files,
        };
        for join_token in &join_tokens {
            let control_plane = ControlPlane::start(&this.postgres.url(), &master_key).await;
            this.edges
                .push(Edge::start(&control_plane.url(), join_token).await);
            this.control_planes.push(control_plane);
        }
        this
    }

    /// Kills a process, as `kill -9` does, and waits until it has gone.
    pub(crate) async fn kill(&mut self, victim: Victim) {
        match victim {
            Victim::ControlPlane => self.control_planes[0].kill().await,
            Victim::Edge => self.edges[0].kill().await,
            Victim::Postgres => self.postgres.kill().await,
        }
    }

    /// Starts it again on what it has left, and waits until it is ready.
    pub(crate) async fn start_again(&mut self, victim: Victim) {
        match victim {
            Victim::ControlPlane => self.control_planes[0].start_again().await,
            Victim::Edge => self.edges[0].start_again().await,
            Victim::Postgres => self.postgres.start_again().await,
        }
    }

    /// Where clients of an edge call; time begins now.
    pub(crate) fn target(&self, edge: usize) -> Target {
        Target {
            url: self.edges[edge].url.clone(),
            api_key: self.api_key.clone(),
            began: Instant::now(),
            heard: Arc::default(),
        }
    }
}

/// Migrates, makes an agent and its key, and a join token for each edge.
async fn set_up(url: &str, master_key: &Path, edges: usize) -> (String, Vec<String>) {
    app::migrate(url).await.unwrap();
    let mut config = Config::default();
    config.database.url = url.to_owned().into();
    config.identity.master_key_file = master_key.to_owned();
    let ambient = Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(Entropy::from_system().unwrap()),
    };
    let app = App::open(&config, ambient).await.unwrap();
    let agent: AgentId = AGENT.parse().unwrap();
    let put = PutAgent {
        id: agent.clone(),
        trust: 800,
        description: String::new(),
    };
    app.agents.put(Context::system(), put).await.unwrap();
    let seed = app.ambient.entropy.bytes::<32>();
    let draft = ApiKey::new(ApiKeyId::from_uuid(app.ambient.uuid()), seed);
    let new = NewApiKey {
        name: "load".to_owned(),
        public_key: draft.public_key().unwrap(),
        agent_ids: vec![agent],
        validator: false,
        expires_at: None,
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let key = app
        .identity
        .create_api_key(Context::system(), new)
        .await
        .unwrap();
    let mut join_tokens = Vec::new();
    for number in 0..edges {
        let new = NewJoinToken::of(format!("host-{number}").parse().unwrap());
        let (token, _) = app
            .identity
            .create_join_token(Context::system(), new)
            .await
            .unwrap();
        join_tokens.push(token.unwrap().to_string());
    }
    app.close().await;
    (ApiKey::new(key.id, seed).expose().to_string(), join_tokens)
}

/// A PostgreSQL server on a directory of its own.
pub(crate) struct Postgres {
    /// Missing only while another is being started.
    server: Option<PrivatePostgres>,
    dir: TempDir,
}

impl Postgres {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = PrivatePostgres::start(Options::new(dir.path())).await;
        Self {
            server: Some(server.unwrap()),
            dir,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.as_ref().unwrap().url()
    }

    /// Kills the postmaster, as `kill -9` does.
    pub(crate) async fn kill(&mut self) {
        let server = self.server.as_ref().unwrap();
        let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        server.exited().await;
    }

    /// Starts another on what is on disk.
    pub(crate) async fn start_again(&mut self) {
        let url = self.url();
        drop(self.server.take());
        let server = PrivatePostgres::start(Options::new(self.dir.path())).await;
        self.server = Some(server.unwrap());
        assert_eq!(self.url(), url, "PostgreSQL has moved");
    }
}

impl Drop for Postgres {
    /// Waits, so that its files can be removed and nothing is left.
    fn drop(&mut self) {
        let Some(server) = self.server.take() else {
            return;
        };
        let stopped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(server.stop());
        });
        let _ = stopped.join();
    }
}
