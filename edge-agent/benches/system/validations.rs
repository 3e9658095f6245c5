//! `validate_token` per second through a real edge, against servers that do
//! nothing but answer.

use anyhow::Result;

use crate::{
    args::Args,
    checks,
    load::{self, Outcome},
    machine::Machine,
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    shown::Shown,
    system::System,
    trivial::{Kind, Trivial},
    validity,
};

/// Concurrent clients, each on its own connection.
const CLIENTS: usize = 64;
/// Distinct tokens that are shown over and over.
const TOKENS: usize = 1000;

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, 3, &[]).await?;
    let machine = Machine::join(&mut system).await?;
    let shown = Shown::new(&machine.tokens(TOKENS)?);
    let edge = system.edge()?;
    let token = system.join_token()?;
    let trivial_mcp = Trivial::start_mcp(&system.control_plane.server()?, &token)?;
    let trivial_rest = Trivial::start(Kind::Rest)?;
    let api_key = system.api_key.as_str();

    let plan = args.plan(&[
        edge.part(),
        system.control_plane.part(),
        system.postgres.part(),
    ]);
    let (mut mcp, mut rest) = (Vec::new(), Vec::new());
    let (mut mcp_floor, mut rest_floor) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("validations: round {round}");
        let address = trivial_mcp.ready.address;
        let floor = args.plan(&[trivial_mcp.part()]);
        let connect = || shown.by_mcp(CLIENTS, address, api_key);
        mcp_floor.push(load::run(&floor, connect)?);
        mcp.push(load::run(&plan, || {
            shown.by_mcp(CLIENTS, edge.address, api_key)
        })?);

        let address = trivial_rest.ready.address;
        let floor = args.plan(&[trivial_rest.part()]);
        let connect = || shown.by_rest(CLIENTS, address, "/", api_key);
        rest_floor.push(load::run(&floor, connect)?);
        rest.push(load::run(&plan, || {
            shown.by_rest(CLIENTS, edge.address, validity::PATH, api_key)
        })?);
    }
    progress!("validations: in process");
    let in_process = checks::rows(args)?;
    let through_edge = [
        Row::of_load("trivial rmcp tool behind the same guard", &mcp_floor),
        Row::of_load("MCP", &mcp)
            .against("trivial rmcp tool", &rates(&mcp_floor))
            .target(Target::AtLeast(0.8)),
        Row::of_load("bare axum JSON", &rest_floor),
        Row::of_load("REST", &rest)
            .against("bare axum JSON", &rates(&rest_floor))
            .target(Target::AtLeast(0.6)),
    ];
    Ok(Section {
        name: "validations",
        title: "tokens checked: in process, and by validate_token over 64 connections (tokens seen before)",
        rows: in_process.into_iter().chain(through_edge).collect(),
    })
}

fn rates(outcomes: &[Outcome]) -> Vec<f64> {
    outcomes.iter().map(|outcome| outcome.rate).collect()
}
