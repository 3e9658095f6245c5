//! How soon a revocation is known at every edge.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    args::Args,
    daemon::Edge,
    http::Connection,
    load::on_own_thread,
    machine::Machine,
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    system::System,
    validity::{Validator, arguments},
};

/// Edges, each a process of its own.
const EDGES: usize = 20;
/// Revocations of all rounds together, at least.
const REVOCATIONS: usize = 200;
const REVOCATIONS_WHEN_QUICK: usize = 20;
/// How often an edge is asked: often enough for the figure, and not so often
/// that asking is what delays it.
const ASK_EVERY: Duration = Duration::from_millis(3);
/// A revocation that is not known by then is lost.
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut system = System::start(Postgres::start().await?, EDGES + 1, &[]).await?;
    let machine = Machine::join(&mut system).await?;
    progress!("revocation: starting {EDGES} edges");
    let edges = (0..EDGES)
        .map(|_| system.edge())
        .collect::<Result<Vec<Edge>>>()?;
    let addresses: Vec<SocketAddr> = edges.iter().map(|edge| edge.address).collect();
    let all = if args.quick {
        REVOCATIONS_WHEN_QUICK
    } else {
        REVOCATIONS
    };

    let (mut p50, mut p99, mut max) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("revocation: round {round}");
        let tokens = machine.tokens(all.div_ceil(args.rounds()))?;
        let measuring = revoke_all(&addresses, &system.api_key, &tokens);
        let mut delays = on_own_thread(measuring)?;
        delays.sort_unstable();
        let percentile = |percent: usize| {
            let index = (delays.len() * percent / 100).min(delays.len() - 1);
            delays[index].as_secs_f64() * 1e3
        };
        p50.push(percentile(50));
        p99.push(percentile(99));
        max.push(percentile(100));
    }
    Ok(Section {
        name: "revocation",
        title: "from the answer of revoke_token until each of 20 edges refuses the token",
        rows: vec![
            Row::new("half of the edges", "ms", &p50),
            Row::new("99 %", "ms", &p99).target(Target::AtMost(50.0)),
            Row::new("the last", "ms", &max),
        ],
    })
}

/// Revokes each token at one edge, in turn, and tells when each edge knew.
async fn revoke_all(
    edges: &[SocketAddr],
    api_key: &str,
    tokens: &[String],
) -> Result<Vec<Duration>> {
    let mut validators = Vec::new();
    let mut revokers = Vec::new();
    for edge in edges {
        validators.push(Validator::open(*edge, api_key).await?);
        let bearer = format!("Bearer {api_key}");
        let headers = [("Authorization", bearer.as_str())];
        revokers.push(Connection::open(*edge, "/mcp/tools/revoke_token", &headers).await?);
    }
    let mut delays = Vec::with_capacity(tokens.len() * edges.len());
    for (number, token) in tokens.iter().enumerate() {
        let question = arguments(token);
        for validator in &mut validators {
            ensure!(validator.ask(&question).await?.valid, "not valid at first");
        }
        let turn = number % revokers.len();
        let revocation = json!({ "token": token }).to_string();
        revokers[turn].post(&revocation).await?;
        let answered = Instant::now();
        let refusals = validators
            .iter_mut()
            .map(|validator| until_refused(validator, &question, answered));
        delays.extend(futures::future::try_join_all(refusals).await?);
    }
    Ok(delays)
}

async fn until_refused(
    validator: &mut Validator,
    question: &str,
    since: Instant,
) -> Result<Duration> {
    loop {
        let validity = validator.ask(question).await?;
        let delay = since.elapsed();
        if !validity.valid {
            let reason = validity.reason.unwrap_or_default();
            ensure!(reason == "GRANT_REVOKED", "refused with `{reason}`");
            return Ok(delay);
        }
        ensure!(delay < DEADLINE, "a revocation is not known everywhere");
        tokio::time::sleep(ASK_EVERY).await;
    }
}
