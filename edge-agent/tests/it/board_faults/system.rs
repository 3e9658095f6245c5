//! Two control planes, three edges and a machine that calls by gRPC, on a
//! quorum cluster. Nothing outlives the test.

use std::{path::Path, sync::Arc};

use authguardian_history::{Filter, Position};
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
    identity::{api_key::NewApiKey, join::NewJoinToken},
    registry::PutAgent,
};
use tempfile::TempDir;

use super::{grpc::Grpc, load::WATCHED_BY_ALL, rest::Rest, watcher::Watcher, way::Way};
use crate::{
    cluster::Cluster,
    edge::RestClient,
    faults::daemon::{ControlPlane, Edge},
    proxy::Proxy,
};

/// One for each edge, and one that calls by gRPC.
const AGENTS: [&str; 4] = ["agent_0", "agent_1", "agent_2", "agent_3"];
const EDGES: usize = 3;

/// Everything. Dropped in this order.
pub(super) struct System {
    pub(super) edges: Vec<Edge>,
    /// Of each edge, its ways to the control planes.
    pub(super) links: Vec<Vec<Proxy>>,
    pub(super) control_planes: Vec<ControlPlane>,
    grpc: Grpc,
    api_keys: Vec<String>,
    pub(super) cluster: Cluster,
    _files: TempDir,
}

impl System {
    pub(super) async fn start() -> Self {
        let cluster = Cluster::start_with_network().await;
        let files = tempfile::tempdir().unwrap();
        let master_key = files.path().join("master.key");
        std::fs::write(&master_key, "07".repeat(32)).unwrap();
        let (api_keys, join_tokens) = set_up(&cluster, &master_key).await;

        let mut control_planes = Vec::new();
        for settings in [cluster.settings_apart(), cluster.settings()] {
            control_planes.push(ControlPlane::start_with(&settings, &master_key).await);
        }
        let servers: Vec<String> = control_planes.iter().map(ControlPlane::url).collect();
        let (mut edges, mut links) = (Vec::new(), Vec::new());
        for (number, join_token) in join_tokens[..EDGES].iter().enumerate() {
            let mut ways = Vec::new();
            for control_plane in &control_planes {
                ways.push(Proxy::to(control_plane.edge_grpc).await);
            }
            // each has another one first
            ways.rotate_left(number % servers.len());
            let servers: Vec<String> = ways.iter().map(Proxy::url).collect();
            edges.push(Edge::start_at(&servers, join_token).await);
            links.push(ways);
        }
        let addresses: Vec<_> = servers.iter().map(|url| url.parse().unwrap()).collect();
        let grpc = Grpc::join(
            &addresses,
            &join_tokens[EDGES],
            AGENTS[EDGES],
            &api_keys[EDGES],
        )
        .await;
        Self {
            edges,
            links,
            control_planes,
            grpc,
            api_keys,
            cluster,
            _files: files,
        }
    }

    /// The REST face of an edge, for its agent.
    pub(super) fn rest(&self, edge: usize) -> Rest {
        Rest::new(&self.edges[edge].url, AGENTS[edge], &self.api_keys[edge])
    }

    /// Clients of all edges for one agent.
    pub(super) fn clients(&self) -> (&'static str, Vec<RestClient>) {
        let edges = self.edges.iter();
        let clients = edges.map(|edge| RestClient::at(&edge.url, &self.api_keys[0]));
        (AGENTS[0], clients.collect())
    }

    /// The control planes themselves.
    pub(super) fn grpc(&self) -> Grpc {
        self.grpc.clone()
    }

    /// All ways to the board.
    pub(super) fn ways(&self) -> Vec<Way> {
        let edges = (0..EDGES).map(|edge| Way::Rest(self.rest(edge)));
        edges.chain([Way::Grpc(self.grpc())]).collect()
    }

    /// Watchers at the control planes and at each edge.
    pub(super) fn watchers(&self, began: Position) -> Vec<Watcher> {
        let prefix = |prefix: &str| Filter::Prefix(prefix.to_owned());
        let key = Filter::Key(WATCHED_BY_ALL.to_owned());
        vec![
            Watcher::by_grpc(self.grpc(), "", began),
            Watcher::by_rest(self.rest(0), prefix("k/"), false, began),
            Watcher::by_rest(self.rest(1), prefix(""), true, began),
            Watcher::by_rest(self.rest(2), key, true, began),
        ]
    }
}

/// Migrates, makes agents and a key for each, and a join token for each machine.
async fn set_up(cluster: &Cluster, master_key: &Path) -> (Vec<String>, Vec<String>) {
    app::migrate(cluster.database_url()).await.unwrap();
    let mut config = Config::default();
    cluster.configure(&mut config);
    config.identity.master_key_file = master_key.to_owned();
    let ambient = Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(Entropy::from_system().unwrap()),
    };
    let app = App::open(&config, ambient).await.unwrap();
    let (mut api_keys, mut join_tokens) = (Vec::new(), Vec::new());
    for (number, agent) in AGENTS.into_iter().enumerate() {
        api_keys.push(api_key(&app, agent).await);
        let new = NewJoinToken {
            ttl: time::Duration::hours(1),
            ..NewJoinToken::of(format!("host-{number}").parse().unwrap())
        };
        let made = app.identity.create_join_token(Context::system(), new).await;
        join_tokens.push(made.unwrap().0.unwrap().to_string());
    }
    app.close().await;
    (api_keys, join_tokens)
}

/// Of a new agent.
pub(super) async fn api_key(app: &App, agent: &str) -> String {
    let agent: AgentId = agent.parse().unwrap();
    let put = PutAgent {
        id: agent.clone(),
        trust: 800,
        description: String::new(),
    };
    app.agents.put(Context::system(), put).await.unwrap();
    let seed = app.ambient.entropy.bytes::<32>();
    let draft = ApiKey::new(ApiKeyId::from_uuid(app.ambient.uuid()), seed);
    let new = NewApiKey {
        name: agent.to_string(),
        public_key: draft.public_key().unwrap(),
        agent_ids: vec![agent],
        validator: false,
        expires_at: None,
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let made = app.identity.create_api_key(Context::system(), new).await;
    ApiKey::new(made.unwrap().id, seed).expose().to_string()
}
