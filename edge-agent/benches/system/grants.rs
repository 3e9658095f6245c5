//! Durable grants per second, against two inserts in one transaction.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::{
    args::Args,
    commits,
    load::{self, Client, Outcome},
    machine::{Machine, next_request_id},
    mcp,
    pgbench::{Pgbench, Transaction},
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    system::{AGENT, JUSTIFICATION, RESOURCE_TYPE, System, TTL_SECONDS},
};

/// Concurrent clients.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// Rounds of one number of clients.
struct Measured {
    clients: usize,
    pgbench: Vec<f64>,
    grpc: Vec<Outcome>,
    mcp: Vec<Outcome>,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, 2, &[]).await?;
    let pgbench = Pgbench::prepare(&system.postgres).await?;
    let machine = Machine::join(&mut system).await?;
    let edge = system.edge()?;
    let (control_plane, postgres) = (system.control_plane.part(), system.postgres.part());

    let mut measured = CLIENTS.map(|clients| Measured {
        clients,
        pgbench: Vec::new(),
        grpc: Vec::new(),
        mcp: Vec::new(),
    });
    for round in 1..=args.rounds() {
        for measured in &mut measured {
            let clients = measured.clients;
            progress!("grants: round {round}, {clients} client(s)");
            system.postgres.execute(&["CHECKPOINT"]).await?;
            let baseline = pgbench.run(Transaction::TwoInserts, clients, args.duration())?;
            measured.pgbench.push(baseline.rate);

            let plan = args.plan(&[control_plane, postgres]);
            let outcome = load::run(&plan, || machine.clients(clients))?;
            measured.grpc.push(outcome);

            let plan = args.plan(&[edge.part(), control_plane, postgres]);
            let connect = || Asker::open(edge.address, &system.api_key, clients);
            measured.mcp.push(load::run(&plan, connect)?);
        }
    }
    progress!("grants: commits per grant");
    let plan = args.plan(&[]);
    let connect = || machine.clients(64);
    let (commits, of_answers) =
        commits::per_thousand(args, &system.postgres, &plan, connect).await?;

    let outcomes = measured
        .iter()
        .flat_map(|measured| measured.grpc.iter().chain(&measured.mcp));
    let answers: u64 = outcomes.map(|outcome| outcome.answers).sum();
    check_durable(&system, answers + of_answers).await?;
    let mut rows: Vec<Row> = measured.iter().flat_map(Measured::rows).collect();
    rows.push(
        Row::new("commits per 1,000 grants, gRPC, 64 clients", "", &[commits])
            .target(Target::AtMost(50.0)),
    );
    Ok(Section {
        name: "grants",
        title: "durable grants, judged, signed and audited, against pgbench's two inserts in one transaction",
        rows,
    })
}

impl Measured {
    fn rows(&self) -> [Row; 2] {
        let clients = match self.clients {
            1 => "1 client".to_owned(),
            several => format!("{several} clients"),
        };
        let row = |face: &str, outcomes: &[Outcome], bound: f64| {
            let row = Row::of_load(format!("{face}, {clients}"), outcomes)
                .against("pgbench", &self.pgbench);
            if self.clients == 64 {
                row.target(Target::AtLeast(bound))
            } else {
                row
            }
        };
        [row("gRPC", &self.grpc, 1.0), row("MCP", &self.mcp, 0.5)]
    }
}

/// Every grant that somebody was told of is in the database, and no other.
pub(crate) async fn check_durable(system: &System, answers: u64) -> Result<()> {
    let grants = system.grants().await?;
    ensure!(
        grants == answers,
        "{answers} grants were answered, {grants} are in the database"
    );
    Ok(())
}

/// Asks for grants by MCP, through an edge.
pub(crate) struct Asker(mcp::Caller);

#[derive(Deserialize)]
struct Decision {
    decision: String,
    token: String,
}

impl Asker {
    /// So many, each on its own connection.
    pub(crate) async fn open(edge: SocketAddr, api_key: &str, count: usize) -> Result<Vec<Self>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            let caller = mcp::Caller::open(edge, api_key, "request_permission").await?;
            askers.push(Self(caller));
        }
        Ok(askers)
    }
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        let arguments = json!({
            "agent_id": AGENT,
            "resource_type": RESOURCE_TYPE,
            "justification": JUSTIFICATION,
            "ttl_seconds": TTL_SECONDS,
            "request_id": next_request_id(),
        });
        let decision: Decision = self.0.call(&arguments.to_string()).await?;
        if decision.decision != "granted" || decision.token.is_empty() {
            bail!("not granted: {}", decision.decision);
        }
        Ok(())
    }
}
