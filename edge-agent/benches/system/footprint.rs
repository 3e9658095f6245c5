//! What an edge costs its host: memory, and the time until it is ready.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tokio::sync::Mutex;

use crate::{
    args::Args,
    machine::Machine,
    memory,
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    system::System,
    validity::{Validator, arguments},
};

/// Grants that live at the same time.
const GRANTS: usize = 100_000;
const GRANTS_WHEN_QUICK: usize = 5_000;
/// Starts per round.
const STARTS: usize = 5;
/// Connections that validate.
const CLIENTS: usize = 64;
/// An edge is idle when it has done nothing for so long.
const IDLE: Duration = Duration::from_secs(1);

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, 2, &[]).await?;
    let machine = Machine::join(&mut system).await?;
    let mut edge = system.edge()?;
    let count = if args.quick {
        GRANTS_WHEN_QUICK
    } else {
        GRANTS
    };
    progress!("footprint: asking for {count} grants");
    let tokens = machine.tokens(count)?;

    let (mut starts, mut idle, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("footprint: round {round}");
        for _ in 0..STARTS {
            starts.push(edge.start_again()?.as_secs_f64() * 1e3);
        }
        tokio::time::sleep(IDLE).await;
        idle.push(memory::resident(edge.part())? / 1e6);
        validate_all(edge.address, &system.api_key, &tokens).await?;
        used.push(memory::resident(edge.part())? / 1e6);
    }
    Ok(Section {
        name: "footprint",
        title: "one edge: memory, and the time from spawning it until it is ready",
        rows: vec![
            Row::new("resident, idle", "MB", &idle).target(Target::AtMost(30.0)),
            Row::new(
                format!("resident, {count} live grants validated"),
                "MB",
                &used,
            )
            .target(Target::AtMost(60.0)),
            Row::new("start to ready", "ms", &starts).target(Target::AtMost(150.0)),
        ],
    })
}

/// Each token once, over REST.
async fn validate_all(edge: SocketAddr, api_key: &str, tokens: &[String]) -> Result<()> {
    let tokens: VecDeque<String> = tokens.iter().cloned().collect();
    let tokens = Arc::new(Mutex::new(tokens));
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut validator = Validator::open(edge, api_key).await?;
        let tokens = tokens.clone();
        clients.push(tokio::spawn(async move {
            loop {
                let Some(token) = tokens.lock().await.pop_front() else {
                    return Ok::<(), anyhow::Error>(());
                };
                let validity = validator.ask(&arguments(&token)).await?;
                ensure!(validity.valid, "{:?}", validity.reason);
            }
        }));
    }
    for client in clients {
        client.await??;
    }
    Ok(())
}
