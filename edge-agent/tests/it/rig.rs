//! A control plane in this process, and what operators would set up in it.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use authguardian_proto::{
    credential::ApiKey,
    ids::{AgentId, ApiKeyId},
    network::Networks,
    rate::RateLimits,
};
use control_plane::{
    app::{self, App},
    audit::{Context, Tail},
    clock::{Ambient, Clock, Entropy, SystemClock},
    config::Config,
    events,
    identity::{Purpose, SigningKey, api_key::NewApiKey, join::NewJoinToken},
    metrics::Metrics,
    registry::PutAgent,
    serve::Server,
    testing::TestDatabase,
};
use tempfile::TempDir;
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::{edge::Edge, wait::DEADLINE};

/// The roadmap's justification.
pub(crate) const JUSTIFICATION: &str = "Q4 analysis task";

/// A control plane that serves.
pub(crate) struct ControlPlane {
    pub(crate) app: Arc<App>,
    pub(crate) edge_grpc: SocketAddr,
    /// Where the keys of tokens are.
    pub(crate) http: SocketAddr,
    metrics: Metrics,
    serving: JoinHandle<()>,
    rest: Stopped,
}

/// A control plane that does not serve, to be started again.
#[derive(Clone)]
pub(crate) struct Stopped {
    config: Config,
    /// Dropped with the last control plane on it.
    _database: Arc<dyn Any + Send + Sync>,
    _files: Arc<TempDir>,
    /// Bound to the edge port and never listening: nobody else is given it while nothing serves there.
    _edge_port: Arc<TcpSocket>,
}

impl ControlPlane {
    /// A fresh one on free ports, with a database of its own.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// One that is configured differently.
    pub(crate) async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        let database = TestDatabase::new().await;
        let url = database.url();
        Stopped::new(url, Arc::new(database), configure)
            .await
            .start()
            .await
    }

    /// A second one on the same database.
    pub(crate) async fn beside(&self) -> Self {
        let mut second = self.rest.clone();
        second.config.listen.edge_grpc.set_port(0);
        second.start().await
    }

    /// Stops it and starts another on the same database, keys and edge port.
    pub(crate) async fn restart(self) -> Self {
        self.stop().await.start().await
    }

    /// Stops serving.
    pub(crate) async fn stop(self) -> Stopped {
        self.app.stop.cancel();
        self.serving.await.unwrap();
        self.rest
    }

    /// Where edges find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.edge_grpc)
    }

    /// A join token for a machine of this name.
    pub(crate) async fn join_token(&self, machine: &str) -> String {
        let new = NewJoinToken::of(machine.parse().unwrap());
        let (text, _) = self
            .app
            .identity
            .create_join_token(Context::system(), new)
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
        self.api_key_until(agents, validator, None).await
    }

    /// A key that ends, with its id.
    pub(crate) async fn api_key_until(
        &self,
        agents: &[&str],
        validator: bool,
        expires_at: Option<time::OffsetDateTime>,
    ) -> (ApiKeyId, String) {
        let unlimited = (RateLimits::default(), Networks::default());
        self.make_key(agents, validator, expires_at, unlimited)
            .await
    }

    /// A key for these agents with limits, with its id.
    pub(crate) async fn limited_key(
        &self,
        agents: &[&str],
        limits: RateLimits,
        networks: Networks,
    ) -> (ApiKeyId, String) {
        self.make_key(agents, false, None, (limits, networks)).await
    }

    async fn make_key(
        &self,
        agents: &[&str],
        validator: bool,
        expires_at: Option<time::OffsetDateTime>,
        bounds: (RateLimits, Networks),
    ) -> (ApiKeyId, String) {
        let seed = self.app.ambient.entropy.bytes::<32>();
        let draft = ApiKey::new(ApiKeyId::from_uuid(self.app.ambient.uuid()), seed);
        let public_key = draft.public_key().unwrap();
        let id = self
            .register(public_key, agents, validator, expires_at, bounds)
            .await;
        (id, ApiKey::new(id, seed).expose().to_string())
    }

    /// Registers a public key.
    pub(crate) async fn register(
        &self,
        public_key: [u8; 32],
        agents: &[&str],
        validator: bool,
        expires_at: Option<time::OffsetDateTime>,
        (rate_limits, allowed_networks): (RateLimits, Networks),
    ) -> ApiKeyId {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let new = NewApiKey {
            name: format!("key {}", NUMBER.fetch_add(1, Ordering::Relaxed)),
            public_key,
            agent_ids: agents.iter().map(|agent| agent.parse().unwrap()).collect(),
            validator,
            expires_at,
            rate_limits,
            allowed_networks,
        };
        let registered = self.app.identity.create_api_key(Context::system(), new);
        registered.await.unwrap().id
    }

    /// Replaces the CA at once, although not everybody can know the next one;
    /// returns the one before.
    pub(crate) async fn rotate_ca(&self) -> SigningKey {
        let identity = &self.app.identity;
        let made = identity.prepare_signing_key(Context::system(), Purpose::Ca);
        let made = made.await.unwrap().id;
        let changed = identity.activate_signing_key(Context::system(), made, true);
        changed.await.unwrap().1.unwrap()
    }

    /// How often an RPC was called since this one was started, such as
    /// `grants.v1.GrantService/ValidateToken`.
    pub(crate) fn calls(&self, rpc: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let sample =
            format!("authguardian_grpc_requests_total{{method=\"/authguardian.{rpc}\",code=");
        text.lines()
            .filter(|line| line.starts_with(&sample))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
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

    /// Drops all changes that were made until now: nobody can resume before them.
    pub(crate) async fn forget_changes(&self) {
        let mut tx = self.app.db.begin().await.unwrap();
        let before = self.app.ambient.clock.now() + std::time::Duration::from_secs(1);
        events::compact(&mut tx, before, 1_000).await.unwrap();
        self.app.db.commit(tx).await.unwrap();
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

impl Stopped {
    /// One that was never started, on this empty database.
    pub(crate) async fn new(
        url: String,
        database: Arc<dyn Any + Send + Sync>,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let files = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(files.path().join("master.key"), "07".repeat(32)).unwrap();
        let mut config = Config::default();
        config.database.url = url.into();
        config.database.max_connections = 16;
        config.identity.master_key_file = files.path().join("master.key");
        let listen = &mut config.listen;
        for address in [
            &mut listen.http,
            &mut listen.admin_grpc,
            &mut listen.edge_grpc,
        ] {
            address.set_port(0);
        }
        let edge_port = TcpSocket::new_v4().unwrap();
        edge_port.set_reuseaddr(true).unwrap();
        edge_port.bind(listen.edge_grpc).unwrap();
        listen.edge_grpc = edge_port.local_addr().unwrap();
        configure(&mut config);
        app::migrate(config.database.url.expose()).await.unwrap();
        Self {
            config,
            _database: database,
            _files: files,
            _edge_port: Arc::new(edge_port),
        }
    }

    /// How it is configured.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The same, configured differently.
    pub(crate) fn configured(mut self, configure: impl FnOnce(&mut Config)) -> Self {
        configure(&mut self.config);
        self
    }

    /// Serves in this process, always at the same edge port.
    pub(crate) async fn start(mut self) -> ControlPlane {
        let clock = Arc::new(SystemClock::default());
        let started_at = clock.now();
        let ambient = Ambient {
            clock,
            entropy: Arc::new(Entropy::from_system().unwrap()),
        };
        let app = Arc::new(App::open(&self.config, ambient).await.unwrap());
        let server = Server::bind(&self.config).await.unwrap();
        let (edge_grpc, http) = (server.addresses.edge_grpc, server.addresses.http);
        self.config.listen.edge_grpc = edge_grpc;
        let metrics = Metrics::new(started_at);
        let running = server.run(Arc::clone(&app), metrics.clone());
        let serving = tokio::spawn(async move { Box::pin(running).await.unwrap() });
        ControlPlane {
            app,
            edge_grpc,
            http,
            metrics,
            serving,
            rest: self,
        }
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
