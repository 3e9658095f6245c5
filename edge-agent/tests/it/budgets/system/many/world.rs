//! PostgreSQL, two control planes, many edges that reach them by ways which can be cut, and
//! operators. Nothing outlives the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use authguardian_proto::{
    credential::ApiKey,
    ids::{ApiKeyId, MachineId},
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
use futures::{StreamExt, stream};
use tempfile::TempDir;
use uuid::Uuid;

use super::{super::site::AGENT, spender::Target, task};
use crate::{
    faults::{
        daemon::{ControlPlane, Edge},
        system::Postgres,
    },
    proxy::Proxy,
};

/// How long a machine spends by itself.
const LEASE_SECONDS: u32 = 3;

/// Edges that are started at the same time.
const AT_ONCE: usize = 4;

/// What an edge keeps of budgets.
const JOURNAL: &str = "slices.journal";

/// Everything. Dropped in this order.
pub(super) struct World {
    pub(super) edges: Vec<Edge>,
    /// Of each edge, its ways to the control planes.
    pub(super) links: Vec<Vec<Proxy>>,
    /// Edges whose disks were destroyed.
    pub(super) destroyed: BTreeSet<usize>,
    pub(super) control_planes: Vec<ControlPlane>,
    /// For operators and for looking.
    pub(super) app: App,
    pub(super) postgres: Postgres,
    api_key: String,
    _files: TempDir,
}

impl World {
    pub(super) async fn start(edges: usize) -> Self {
        let postgres = Postgres::start().await;
        let files = tempfile::tempdir().unwrap();
        let master_key = files.path().join("master.key");
        std::fs::write(&master_key, "07".repeat(32)).unwrap();
        let app = open(&postgres.url(), &master_key).await;
        let api_key = set_up(&app).await;
        let settings = [
            format!("database.url={}", postgres.url()),
            format!("budgets.lease_seconds={LEASE_SECONDS}"),
        ];
        let mut control_planes = Vec::new();
        for _ in 0..2 {
            control_planes.push(ControlPlane::start_with(&settings, &master_key).await);
        }
        let starting = (0..edges).map(|number| start_edge(number, &app, &control_planes));
        let started: Vec<_> = stream::iter(starting).buffered(AT_ONCE).collect().await;
        let (edges, links) = started.into_iter().unzip();
        Self {
            edges,
            links,
            destroyed: BTreeSet::new(),
            control_planes,
            app,
            postgres,
            api_key,
            _files: files,
        }
    }

    /// Where an agent calls.
    pub(super) fn target(&self, edge: usize) -> Target {
        Target {
            edge,
            url: self.edges[edge].url.clone(),
            api_key: self.api_key.clone(),
        }
    }

    /// Which machine an edge is.
    pub(super) async fn machine(&self, edge: usize) -> MachineId {
        let mut connection = self.app.db.read().await.unwrap();
        let id = sqlx::query_scalar("SELECT id FROM machine WHERE name = $1")
            .bind(name(edge))
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        MachineId::from_uuid(id)
    }

    /// Whether the control plane counts on nothing of these edges any more: all their
    /// leases have ended.
    pub(super) async fn are_unleased(&self, edges: &[usize]) -> bool {
        let names: Vec<String> = edges.iter().map(|edge| name(*edge)).collect();
        let Ok(mut connection) = self.app.db.read().await else {
            return false;
        };
        let leased = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM budget_slice JOIN machine ON id = machine_id
             WHERE name = ANY ($1) AND NOT is_closed AND leased_until > now())",
        )
        .bind(names)
        .fetch_one(&mut *connection)
        .await;
        leased.is_ok_and(|leased: bool| !leased)
    }

    /// By machine: its last exchange.
    pub(super) async fn exchanges(&self) -> BTreeMap<Uuid, i64> {
        let mut connection = self.app.db.read().await.unwrap();
        let all: Vec<(Uuid, i64)> =
            sqlx::query_as("SELECT machine_id, sequence FROM budget_exchange")
                .fetch_all(&mut *connection)
                .await
                .unwrap();
        all.into_iter().collect()
    }

    /// Which journal its disk has.
    pub(super) fn journal(&self, edge: usize) -> i64 {
        let content = std::fs::read_to_string(self.edges[edge].dir().join(JOURNAL)).unwrap();
        let first: serde_json::Value =
            serde_json::from_str(content.lines().next().unwrap()).unwrap();
        first["journal"]["id"].as_u64().unwrap().cast_signed()
    }

    /// What a killed edge has kept of budgets is gone.
    pub(super) fn destroy_disk(&mut self, edge: usize) {
        std::fs::remove_file(self.edges[edge].dir().join(JOURNAL)).unwrap();
        self.destroyed.insert(edge);
    }
}

fn name(edge: usize) -> String {
    format!("host-{edge}")
}

/// The services of a control plane that does not serve.
async fn open(url: &str, master_key: &Path) -> App {
    app::migrate(url).await.unwrap();
    let mut config = Config::default();
    config.database.url = url.to_owned().into();
    config.identity.master_key_file = master_key.to_owned();
    config.budgets.lease_seconds = LEASE_SECONDS;
    let ambient = Ambient {
        clock: Arc::new(SystemClock::default()),
        entropy: Arc::new(Entropy::from_system().unwrap()),
    };
    App::open(&config, ambient).await.unwrap()
}

/// Makes the budgets, an agent and its key.
async fn set_up(app: &App) -> String {
    for task in task::ALL {
        let made = app.budgets.create(Context::system(), task.made());
        made.await.unwrap();
    }
    let put = PutAgent {
        id: AGENT.parse().unwrap(),
        trust: 800,
        description: String::new(),
    };
    app.agents.put(Context::system(), put).await.unwrap();
    let seed = app.ambient.entropy.bytes::<32>();
    let draft = ApiKey::new(ApiKeyId::from_uuid(app.ambient.uuid()), seed);
    let new = NewApiKey {
        name: "spenders".to_owned(),
        public_key: draft.public_key().unwrap(),
        agent_ids: vec![AGENT.parse().unwrap()],
        validator: false,
        expires_at: None,
        rate_limits: RateLimits::default(),
        allowed_networks: Networks::default(),
    };
    let made = app.identity.create_api_key(Context::system(), new).await;
    ApiKey::new(made.unwrap().id, seed).expose().to_string()
}

/// With its ways to the control planes: each has another one first.
async fn start_edge(
    number: usize,
    app: &App,
    control_planes: &[ControlPlane],
) -> (Edge, Vec<Proxy>) {
    let new = NewJoinToken::of(name(number).parse().unwrap());
    let made = app.identity.create_join_token(Context::system(), new).await;
    let join_token = made.unwrap().0.unwrap().to_string();
    let mut ways = Vec::new();
    for control_plane in control_planes {
        ways.push(Proxy::to(control_plane.edge_grpc).await);
    }
    ways.rotate_left(number % control_planes.len());
    let servers: Vec<String> = ways.iter().map(Proxy::url).collect();
    (Edge::start_at(&servers, &join_token).await, ways)
}
