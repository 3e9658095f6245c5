//! `validate_token` through every face of a real edge, each beside a bare handler
//! on the same transport that reads as much and answers with as much.

use std::net::SocketAddr;

use anyhow::Result;

use crate::{
    args::Args,
    cpu::{BRIDGES, EDGE, Part, TRIVIAL},
    daemon::{Daemon, Edge},
    load::{self, Client, Outcome},
    machine::Machine,
    postgres::Postgres,
    progress,
    report::{Row, Section},
    shown::Shown,
    system::System,
    trivial::{self, Kind, Trivial},
    validity,
};
use asker::Clients;

mod asker;
mod way;

/// Concurrent clients, each on connections of its own.
const CLIENTS: usize = 64;
/// Those by stdio, each with a process of its own.
const BRIDGED: usize = 16;
/// Distinct tokens that are shown over and over.
const TOKENS: usize = 1000;

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, 3, &[]).await?;
    let machine = Machine::join(&mut system).await?;
    let shown = &Shown::new(&machine.tokens(TOKENS)?);
    let edge = system.edge()?;
    let token = system.join_token()?;
    let rmcp = Trivial::start_mcp(&system.control_plane.server()?, &token)?;
    let bare = |kind| Trivial::start(kind);
    let (rest, sse, websocket) = (bare(Kind::Rest)?, bare(Kind::Sse)?, bare(Kind::WebSocket)?);
    let key = system.api_key.as_str();

    let mut faces = NAMES.map(Face::new);
    for round in 1..=args.rounds() {
        progress!("faces: round {round}");
        let clients = Clients { shown, key };
        let [of_rest, alone, sessions, of_sse, of_websocket, stdio] = &mut faces;
        let path = validity::PATH;
        of_rest.measure(
            || on(args, &rest, |to| shown.by_rest(CLIENTS, to, "/", key)),
            || at(args, &edge, |to| shown.by_rest(CLIENTS, to, path, key)),
        )?;
        alone.measure(
            || on(args, &rmcp, |to| shown.by_mcp(CLIENTS, to, key)),
            || at(args, &edge, |to| shown.by_mcp(CLIENTS, to, key)),
        )?;
        sessions.measure(
            || on(args, &rmcp, |to| clients.with_sessions(CLIENTS, to)),
            || at(args, &edge, |to| clients.with_sessions(CLIENTS, to)),
        )?;
        of_sse.measure(
            || on(args, &sse, |to| clients.by_sse(CLIENTS, to)),
            || at(args, &edge, |to| clients.by_sse(CLIENTS, to)),
        )?;
        of_websocket.measure(
            || on(args, &websocket, |to| clients.by_websocket(CLIENTS, to)),
            || at(args, &edge, |to| clients.by_websocket(CLIENTS, to)),
        )?;
        stdio.measure(
            || {
                let echoes = several(trivial::lines)?;
                through(args, &clients, echoes, TRIVIAL, None)
            },
            || {
                let bridges = several(|| edge.bridge(key))?;
                through(args, &clients, bridges, BRIDGES, Some(edge.part()))
            },
        )?;
    }
    Ok(Section {
        name: "faces",
        title: "validate_token by 64 clients (stdio: 16 bridges), tokens seen before, answered at the edge",
        rows: faces.iter().flat_map(Face::rows).collect(),
    })
}

/// In the order of the table; each with what it is compared with.
const NAMES: [(&str, &str); 6] = [
    ("REST", "bare axum JSON"),
    (
        "Streamable HTTP, 2026-07-28",
        "rmcp tool behind the same guard",
    ),
    (
        "Streamable HTTP, 2025-11-25, in sessions",
        "rmcp tool behind the same guard, in sessions",
    ),
    ("HTTP+SSE", "bare axum SSE and POST"),
    ("WebSocket", "bare axum WebSocket"),
    ("stdio", "bare line echo"),
];

/// Rounds of one face.
struct Face {
    name: &'static str,
    bare: &'static str,
    floor: Vec<Outcome>,
    outcomes: Vec<Outcome>,
}

impl Face {
    fn new((name, bare): (&'static str, &'static str)) -> Self {
        Self {
            name,
            bare,
            floor: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// One round.
    fn measure(
        &mut self,
        floor: impl FnOnce() -> Result<Outcome>,
        face: impl FnOnce() -> Result<Outcome>,
    ) -> Result<()> {
        progress!("faces: {}", self.name);
        self.floor.push(floor()?);
        self.outcomes.push(face()?);
        Ok(())
    }

    fn rows(&self) -> [Row; 3] {
        let rates = |outcomes: &[Outcome]| -> Vec<f64> {
            outcomes.iter().map(|outcome| outcome.rate).collect()
        };
        let cpu = |outcomes: &[Outcome], part: &str| -> Vec<f64> {
            let used = |outcome: &Outcome| outcome.cpu_us.get(part).copied();
            outcomes.iter().filter_map(used).collect()
        };
        [
            Row::of_load(self.bare, &self.floor),
            Row::of_load(self.name, &self.outcomes).against(self.bare, &rates(&self.floor)),
            Row::new(
                format!("{}: CPU of the edge", self.name),
                "µs",
                &cpu(&self.outcomes, EDGE),
            )
            .against(self.bare, &cpu(&self.floor, TRIVIAL)),
        ]
    }
}

/// On a bare server.
fn on<C: Client, F>(
    args: &Args,
    server: &Trivial,
    connect: impl FnOnce(SocketAddr) -> F + Send,
) -> Result<Outcome>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let address = server.ready.address;
    load::run(&args.plan(&[server.part()]), || connect(address))
}

/// At the edge.
fn at<C: Client, F>(
    args: &Args,
    edge: &Edge,
    connect: impl FnOnce(SocketAddr) -> F + Send,
) -> Result<Outcome>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let address = edge.address;
    load::run(&args.plan(&[edge.part()]), || connect(address))
}

/// Processes that answer lines; spawned here, as they end with this thread.
fn several(start: impl Fn() -> Result<Daemon>) -> Result<Vec<Daemon>> {
    (0..BRIDGED).map(|_| start()).collect()
}

/// Through these processes, and what is behind them.
fn through(
    args: &Args,
    clients: &Clients<'_>,
    mut processes: Vec<Daemon>,
    name: &'static str,
    behind: Option<Part>,
) -> Result<Outcome> {
    let mut parts: Vec<Part> = processes.iter().map(|process| process.part(name)).collect();
    parts.extend(behind);
    let pipes = processes
        .iter_mut()
        .map(Daemon::pipes)
        .collect::<Result<Vec<_>>>()?;
    load::run(&args.plan(&parts), || clients.by_lines(pipes))
}
