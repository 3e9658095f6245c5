//! What the frameworks alone can do on this machine, for comparison.

use anyhow::Result;

use crate::{
    args::Args,
    load, progress,
    report::{Row, Section},
    trivial::{Kind, Trivial},
};

const CLIENTS: [usize; 2] = [1, 64];

/// Measures it.
pub(crate) fn run(args: &Args) -> Result<Section> {
    let server = Trivial::start(Kind::Grpc)?;
    let plan = args.plan(&[server.part()]);
    let mut outcomes = CLIENTS.map(|clients| (clients, Vec::new()));
    for round in 1..=args.rounds() {
        progress!("floor: round {round}");
        for (clients, outcomes) in &mut outcomes {
            let connect = async || server.ready.grpc_clients(*clients);
            outcomes.push(load::run(&plan, connect)?);
        }
    }
    let rows = outcomes.iter().map(|(clients, outcomes)| {
        let name = format!("tonic unary, one mTLS connection, {clients} client(s)");
        Row::of_load(name, outcomes)
    });
    Ok(Section {
        name: "floor",
        title: "what the framework alone can do, for comparison",
        rows: rows.collect(),
    })
}
