//! The registry at the size of a company: heartbeats, discovery, and how soon a
//! change is known.

mod crowd;
mod edge;
mod watch;

use anyhow::{Context, Result};
use authguardian_proto::registry::v1::{
    DiscoverAgentsRequest, registry_service_client::RegistryServiceClient,
};
use control_plane::db::private_postgres::DATABASE;
use edge_agent::dial::Channel;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};

use self::edge::SimulatedEdge;
use crate::{
    args::Args,
    cpu::Processes,
    load::{self, Client, on_own_thread},
    machine::log_in,
    postgres::Postgres,
    progress,
    report::{Row, Section},
    system::System,
};

/// Simulated edges, each with its own certificate and connection.
const EDGES: usize = 1000;
/// What each of them vouches for.
const AGENTS_EACH: usize = 10;
/// Registered when discovery is measured.
const MANY_AGENTS: usize = 100_000;
/// An hour of heartbeats every 5 seconds …
const ROUNDS: u32 = 720;
/// … and a part of it.
const ROUNDS_WHEN_QUICK: u32 = 12;
/// Edges that ask at the same time at full speed.
const AT_ONCE: usize = 64;
/// Whoever asks for capabilities.
const ASKERS: usize = 4;

/// The simulated edges are silent while discovery is measured, and shall not be
/// judged for that: 100,000 changes at once would be another measurement.
const PATIENT: [&str; 2] = [
    "registry.suspect_after_seconds=3000",
    "registry.gone_after_seconds=3600",
];

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, EDGES, &PATIENT).await?;
    let mut rows = Vec::new();
    on_own_thread(measure(args, &mut system, &mut rows))?;
    Ok(Section {
        name: "registry",
        title: "10,000 agents on 1,000 simulated edges at one control plane",
        rows,
    })
}

async fn measure(args: &Args, system: &mut System, rows: &mut Vec<Row>) -> Result<()> {
    progress!("registry: {EDGES} edges join");
    let mut edges = edge::join_all(system, EDGES).await?;
    crowd::register(&system.postgres, AGENTS_EACH).await?;
    rows.extend(steady(args, system, &mut edges).await?);
    edges = full_speed(args, system, edges, rows).await?;
    edges = an_hour(args, system, edges, rows).await?;
    progress!("registry: {MANY_AGENTS} agents");
    crowd::grow_to(&system.postgres, MANY_AGENTS).await?;
    let first = edges.first().context("an edge")?;
    let bearer = log_in(&first.channel, &system.api_key).await?;
    for (name, capability) in [
        ("agents of one capability, of 100,000", "work.kind-7"),
        ("of a namespace that all are in", "work.*"),
    ] {
        rows.push(discover(args, system, &first.channel, &bearer, name, capability).await?);
    }
    rows.extend(watch::run(args, &edges, &bearer).await?);
    Ok(())
}

/// Everybody each 5 seconds: what that costs.
async fn steady(args: &Args, system: &System, edges: &mut [SimulatedEdge]) -> Result<Vec<Row>> {
    let parts = [system.control_plane.part(), system.postgres.part()];
    let mut used = vec![Vec::new(); parts.len()];
    for round in 1..=args.rounds() {
        progress!("registry: heartbeats every 5 s, round {round}");
        let before = Processes::look()?;
        let began = Instant::now();
        edge::beat_evenly(edges).await?;
        let took = began.elapsed().as_secs_f64();
        let after = Processes::look()?;
        for (part, used) in parts.iter().zip(&mut used) {
            let spent = after
                .of_tree(part.pid)?
                .saturating_sub(before.of_tree(part.pid)?);
            used.push(spent.as_secs_f64() * 100.0 / took);
        }
    }
    let rows = parts.iter().zip(used);
    Ok(rows
        .map(|(part, used)| {
            let name = format!("a heartbeat of each every 5 s: {}", part.name);
            Row::new(name, "% of a core", &used)
        })
        .collect())
}

async fn full_speed(
    args: &Args,
    system: &System,
    mut edges: Vec<SimulatedEdge>,
    rows: &mut Vec<Row>,
) -> Result<Vec<SimulatedEdge>> {
    let plan = args.plan(&[system.control_plane.part(), system.postgres.part()]);
    let mut outcomes = Vec::new();
    for round in 1..=args.rounds() {
        progress!("registry: heartbeats at full speed, round {round}");
        // the sequence that a clone has reached stays unknown: each begins anew
        let mut clients: Vec<SimulatedEdge> = edges.iter().take(AT_ONCE).cloned().collect();
        edge::begin_all(&mut clients).await?;
        outcomes.push(load::generate(&plan, clients).await?);
    }
    edge::begin_all(&mut edges).await?;
    let name = format!("heartbeats, {AT_ONCE} at once");
    rows.push(Row::of_load(name, &outcomes));
    Ok(edges)
}

/// As many heartbeats as an hour has.
async fn an_hour(
    args: &Args,
    system: &System,
    edges: Vec<SimulatedEdge>,
    rows: &mut Vec<Row>,
) -> Result<Vec<SimulatedEdge>> {
    let rounds = if args.quick {
        ROUNDS_WHEN_QUICK
    } else {
        ROUNDS
    };
    let size = async |table: &str| -> Result<f64> {
        let query = format!("SELECT pg_total_relation_size('{table}')");
        let bytes = system.postgres.number(DATABASE, &query).await?;
        Ok(f64::from(u32::try_from(bytes)?) / 1024.0)
    };
    let tables = ["edge", "agent_registration"];
    let mut before = Vec::new();
    for table in tables {
        before.push(size(table).await?);
    }
    progress!("registry: {rounds} rounds of heartbeats, as fast as they go");
    let tasks: Vec<_> = edges
        .into_iter()
        .map(|mut edge| {
            tokio::spawn(async move {
                for _ in 0..rounds {
                    edge.call().await?;
                }
                anyhow::Ok(edge)
            })
        })
        .collect();
    let mut edges = Vec::new();
    for task in tasks {
        edges.push(task.await??);
    }
    for (table, before) in tables.iter().zip(before) {
        let name = format!("`{table}` with indexes after {rounds} rounds; before");
        rows.push(Row::new(name, "KiB", &[size(table).await?]).against("before", &[before]));
    }
    Ok(edges)
}

async fn discover(
    args: &Args,
    system: &System,
    channel: &Channel,
    bearer: &MetadataValue<Ascii>,
    name: &str,
    capability: &'static str,
) -> Result<Row> {
    let plan = args.plan(&[system.control_plane.part(), system.postgres.part()]);
    let mut outcomes = Vec::new();
    for round in 1..=args.rounds() {
        progress!("registry: `{capability}`, round {round}");
        let asker = Asker {
            client: RegistryServiceClient::new(channel.clone()),
            bearer: bearer.clone(),
            capability,
        };
        outcomes.push(load::generate(&plan, vec![asker; ASKERS]).await?);
    }
    Ok(Row::of_load(name, &outcomes))
}

/// Asks for the best hundred of a capability.
#[derive(Clone)]
struct Asker {
    client: RegistryServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
    capability: &'static str,
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        let mut request = tonic::Request::new(DiscoverAgentsRequest {
            capability: self.capability.to_owned(),
            page_size: 100,
            ..DiscoverAgentsRequest::default()
        });
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        let found = self.client.discover_agents(request).await?.into_inner();
        anyhow::ensure!(found.agents.len() == 100, "{} agents", found.agents.len());
        anyhow::ensure!(
            found.agents.is_sorted_by_key(|agent| agent.liveness),
            "not in order"
        );
        Ok(())
    }
}
