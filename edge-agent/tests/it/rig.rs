//! A control plane in this process, and what operators would set up in it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use authguardian_proto::{
    credential::ApiKey,
    ids::{AgentId, ApiKeyId},
};
use control_plane::{
    app::{self, App},
    audit::{Context, Tail},
    clock::{Ambient, Clock, Entropy, SystemClock},
    config::Config,
    identity::api_key::NewApiKey,
    metrics::Metrics,
    registry::PutAgent,
    serve::Server,
    testing::TestDatabase,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{edge::Edge, wait::DEADLINE};

/// The roadmap's justification.
pub(crate) const JUSTIFICATION: &str = "Q4 analysis task";

/// A control plane that serves.
pub(crate) struct ControlPlane {
    pub(crate) app: Arc<App>,
    pub(crate) edge_grpc: SocketAddr,
    config: Config,
    serving: JoinHandle<()>,
    database: Arc<TestDatabase>,
    files: Arc<TempDir>,
}

impl ControlPlane {
    /// A fresh one on free ports.
    pub(crate) async fn start() -> Self {
        let database = Arc::new(TestDatabase::new().await);
        let files = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(files.path().join("master.key"), "07".repeat(32)).unwrap();
        let mut config = Config::default();
        config.database.url = database.url().into();
        config.database.max_connections = 16;
        config.identity.master_key_file = files.path().join("master.key");
        for address in [
            &mut config.listen.http,
            &mut config.listen.admin_grpc,
            &mut config.listen.edge_grpc,
        ] {
            *address = "127.0.0.1:0".parse().unwrap();
        }
        app::migrate(config.database.url.expose()).await.unwrap();
        Self::serve(config, database, files).await
    }

    /// Stops it and starts another on the same database, keys and edge port.
    pub(crate) async fn restart(self) -> Self {
        let (mut config, database, files) = (
            self.config.clone(),
            self.database.clone(),
            self.files.clone(),
        );
        config.listen.edge_grpc = self.edge_grpc;
        self.stop().await;
        Self::serve(config, database, files).await
    }

    /// Stops serving.
    pub(crate) async fn stop(self) -> Stopped {
        self.app.stop.cancel();
        self.serving.await.unwrap();
        Stopped {
            config: self.config,
            edge_grpc: self.edge_grpc,
            database: self.database,
            files: self.files,
        }
    }

    async fn serve(config: Config, database: Arc<TestDatabase>, files: Arc<TempDir>) -> Self {
        let clock = Arc::new(SystemClock::default());
        let started_at = clock.now();
        let ambient = Ambient {
            clock,
            entropy: Arc::new(Entropy::from_system().unwrap()),
        };
        let app = Arc::new(App::open(&config, ambient).await.unwrap());
        let server = Server::bind(&config.listen).await.unwrap();
        let edge_grpc = server.addresses.edge_grpc;
        let running = server.run(Arc::clone(&app), Metrics::new(started_at));
        let serving = tokio::spawn(async move { Box::pin(running).await.unwrap() });
        Self {
            app,
            edge_grpc,
            config,
            serving,
            database,
            files,
        }
    }

    /// Where edges find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.edge_grpc)
    }

    /// A join token for a machine of this name.
    pub(crate) async fn join_token(&self, machine: &str) -> String {
        let ttl = time::Duration::seconds(600);
        let (text, _) = self
            .app
            .identity
            .create_join_token(Context::system(), &machine.parse().unwrap(), ttl)
            .await
            .unwrap();
        text.unwrap().to_string()
    }

    /// A registered agent.
    pub(crate) async fn agent(&self, name: &str, trust: u32) {
        let id: AgentId = name.parse().unwrap();
        let put = PutAgent {
            id,
            trust,
            description: String::new(),
        };
        self.app.agents.put(Context::system(), put).await.unwrap();
    }

    /// A key for these agents, as its text.
    pub(crate) async fn api_key(&self, agents: &[&str], validator: bool) -> String {
        self.api_key_with_id(agents, validator).await.1
    }

    /// A key for these agents, with its id.
    pub(crate) async fn api_key_with_id(
        &self,
        agents: &[&str],
        validator: bool,
    ) -> (ApiKeyId, String) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let seed = self.app.ambient.entropy.bytes::<32>();
        let draft = ApiKey::new(ApiKeyId::from_uuid(self.app.ambient.uuid()), seed);
        let new = NewApiKey {
            name: format!("key {}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            public_key: draft.public_key().unwrap(),
            agent_ids: agents.iter().map(|agent| agent.parse().unwrap()).collect(),
            validator,
            expires_at: None,
        };
        let registered = self
            .app
            .identity
            .create_api_key(Context::system(), new)
            .await
            .unwrap();
        (
            registered.id,
            ApiKey::new(registered.id, seed).expose().to_string(),
        )
    }

    /// How many sessions were made until `grants` grants had been asked for.
    pub(crate) async fn logins_before(&self, grants: usize) -> usize {
        let mut tail = Tail::begin(self.app.db.clone(), 10_000).await.unwrap();
        let (mut logins, mut asked) = (0, 0);
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while asked < grants {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{asked} of {grants} grants are in the log"
            );
            for record in tail.read().await.unwrap() {
                logins += usize::from(record.action == "session.create");
                asked += usize::from(record.action == "grant.request");
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        logins
    }

    /// Ends a key.
    pub(crate) async fn revoke_api_key(&self, id: ApiKeyId) {
        self.app
            .identity
            .revoke_api_key(Context::system(), id)
            .await
            .unwrap();
    }
}

/// A control plane that does not serve, to be started again.
pub(crate) struct Stopped {
    config: Config,
    edge_grpc: SocketAddr,
    database: Arc<TestDatabase>,
    files: Arc<TempDir>,
}

impl Stopped {
    /// Starts it again, at the same edge port.
    pub(crate) async fn start(mut self) -> ControlPlane {
        self.config.listen.edge_grpc = self.edge_grpc;
        ControlPlane::serve(self.config, self.database, self.files).await
    }
}

/// A control plane, a joined edge, and a key for `data_analyst` with trust 800.
pub(crate) struct Rig {
    pub(crate) control_plane: ControlPlane,
    pub(crate) edge: Edge,
    pub(crate) api_key: String,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        control_plane.agent("data_analyst", 800).await;
        control_plane.agent("orchestrator", 900).await;
        let api_key = control_plane.api_key(&["data_analyst"], false).await;
        let edge = Edge::start(&control_plane, "host").await;
        Self {
            control_plane,
            edge,
            api_key,
        }
    }
}
