//! `make bench`: the whole system as it is deployed, in release, on this
//! machine. Each section starts what it needs: a PostgreSQL cluster, a control
//! plane, edges, and the baselines that every figure is compared with, round by
//! round. The load generator is this process.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod args;
mod audit;
mod blackboard;
mod budgets;
mod checks;
mod commits;
mod confirmed;
mod cpu;
mod daemon;
mod environment;
mod faces;
mod floor;
mod footprint;
mod grants;
mod http;
mod keys;
mod load;
mod machine;
mod mcp;
mod memory;
mod pgbench;
mod postgres;
mod registry;
mod replica;
mod report;
mod revocation;
mod rpc;
mod shown;
mod standby;
mod streams;
mod system;
mod trivial;
mod validations;
mod validity;
mod websocket;

use anyhow::Result;
use clap::Parser;

use args::{Args, Section};
use environment::Environment;
use report::Report;

/// Tells what is being done.
macro_rules! progress {
    ($($text:tt)*) => { eprintln!("bench: {}", format_args!($($text)*)) };
}
pub(crate) use progress;

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(kind) = args.serve.serve {
        // the same runtime as an edge has
        return tokio::runtime::Runtime::new()?.block_on(args.serve.run(kind));
    }
    // everything is spawned from this thread: children die with the thread that spawned them
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(bench(&args))
}

async fn bench(args: &Args) -> Result<()> {
    let environment = Environment::look(args)?;
    let mut sections = Vec::new();
    for section in args.sections() {
        sections.push(match section {
            Section::Grants => grants::run(args).await?,
            Section::Confirmed => confirmed::run(args).await?,
            Section::Validations => validations::run(args).await?,
            Section::Faces => faces::run(args).await?,
            Section::Footprint => footprint::run(args).await?,
            Section::Revocation => revocation::run(args).await?,
            Section::Streams => streams::run(args).await?,
            Section::Registry => registry::run(args).await?,
            Section::Blackboard => blackboard::run(args).await?,
            Section::Replica => replica::run(args).await?,
            Section::Budgets => budgets::run(args).await?,
            Section::Audit => audit::run(args).await?,
            Section::Floor => floor::run(args)?,
        });
    }
    let report = Report {
        environment,
        sections,
    };
    report.print();
    report.write(&args.json)?;
    progress!("written to `{}`", args.json.display());
    Ok(())
}
