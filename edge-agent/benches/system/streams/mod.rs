//! Thousands of streams at one edge: what an idle one takes of its memory, and
//! how soon a revocation is told to all of them.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    args::Args,
    cpu::{Part, Processes},
    daemon::{Edge, Settings},
    http::Connection,
    load::on_own_thread,
    machine::Machine,
    memory,
    postgres::Postgres,
    progress,
    report::{Row, Section, Target},
    system::System,
};
use audience::{Audience, KINDS, Told};
use stream::Kind;

mod audience;
mod stream;

/// Streams of each kind.
const STREAMS: usize = 5_000;
const STREAMS_WHEN_QUICK: usize = 200;
/// Revocations per round.
const REVOCATIONS: usize = 5;
/// The edge is idle when it has done nothing for so long.
const IDLE: Duration = Duration::from_secs(2);
/// All streams are of one key.
const LIMITS: Settings = &[
    ("AUTHGUARDIAN_LIMITS__MAX_CONNECTIONS", "20000"),
    ("AUTHGUARDIAN_LIMITS__MAX_SESSIONS", "20000"),
    ("AUTHGUARDIAN_LIMITS__MAX_SESSIONS_PER_KEY", "20000"),
];

/// One round.
#[derive(Default)]
struct Round {
    /// KiB per stream, by kind.
    memory: Vec<f64>,
    /// CPU time of the edge while all are idle, ms per second.
    idle_cpu: f64,
    /// The same while it tells all, µs per stream and revocation.
    telling_cpu: f64,
    told: Vec<Told>,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    // the streams are connections of this process
    edge_agent::lifecycle::allow_many_connections();
    let mut system = System::start(Postgres::start().await?, 2, &[]).await?;
    let machine = Machine::join(&mut system).await?;
    let mut edge = system.edge_with(LIMITS)?;
    let count = if args.quick {
        STREAMS_WHEN_QUICK
    } else {
        STREAMS
    };
    let mut rounds = Vec::new();
    for round in 1..=args.rounds() {
        progress!("streams: round {round}");
        let tokens = machine.tokens(REVOCATIONS)?;
        // memory that was used before would be used again
        edge.start_again()?;
        let measuring = measure(&edge, &system.api_key, count, &tokens);
        rounds.push(on_own_thread(measuring)?);
    }
    Ok(Section {
        name: "streams",
        title: "idle streams at one edge, and one revocation told to all of them, from the call's beginning",
        rows: rows(count, &rounds),
    })
}

async fn measure(edge: &Edge, api_key: &str, count: usize, tokens: &[String]) -> Result<Round> {
    let part = edge.part();
    let mut round = Round::default();
    let mut audience = Audience::new(edge.address, api_key);
    tokio::time::sleep(IDLE).await;
    let mut before = memory::resident(part)?;
    for kind in KINDS {
        progress!("streams: opening {count} by {}", kind.name());
        audience.open(kind, count).await?;
        tokio::time::sleep(IDLE).await;
        let after = memory::resident(part)?;
        round.memory.push(per(count, (after - before) / 1024.0));
        before = after;
    }
    let used = cpu_of(part)?;
    tokio::time::sleep(IDLE).await;
    let used = cpu_of(part)?.saturating_sub(used);
    round.idle_cpu = used.as_secs_f64() * 1e3 / IDLE.as_secs_f64();

    progress!("streams: revoking");
    let bearer = format!("Bearer {api_key}");
    let headers = [("Authorization", bearer.as_str())];
    let path = "/mcp/tools/revoke_token";
    let mut revoker = Connection::open(edge.address, path, &headers).await?;
    let mut used = Duration::ZERO;
    for token in tokens {
        audience.until_quiet().await?;
        let before = cpu_of(part)?;
        let began = Instant::now();
        let arguments = json!({ "token": token }).to_string();
        let (answer, told) = tokio::join!(revoker.post(&arguments), audience.all_told(began));
        answer?;
        round.told.push(told?);
        used += cpu_of(part)?.saturating_sub(before);
    }
    let messages = count * KINDS.len() * tokens.len();
    round.telling_cpu = per(messages, used.as_secs_f64() * 1e6);
    Ok(round)
}

/// What a process has used.
fn cpu_of(part: Part) -> Result<Duration> {
    Processes::look()?.of_tree(part.pid)
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn per(count: usize, all: f64) -> f64 {
    all / count as f64
}

fn rows(count: usize, rounds: &[Round]) -> Vec<Row> {
    let each = |figure: &dyn Fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        let kib = each(&|round| round.memory[index]);
        let name = format!("resident per idle stream, {count} by {}", kind.name());
        rows.push(Row::new(name, "KiB", &kib).target(Target::AtMost(kind.bound_kib())));
    }
    rows.push(Row::new(
        "CPU of the edge while all are idle, per second",
        "ms",
        &each(&|round| round.idle_cpu),
    ));
    let told = |percent, is_meant: &dyn Fn(Kind) -> bool| -> Vec<f64> {
        let all = rounds.iter().flat_map(|round| &round.told);
        all.map(|told| told.percent(percent, is_meant)).collect()
    };
    for kind in KINDS {
        let name = format!("told to 99 % of {}", kind.name());
        rows.push(Row::new(name, "ms", &told(99, &|this| this == kind)));
    }
    let all = |name, percent| Row::new(name, "ms", &told(percent, &|_| true));
    rows.push(all("told to half of all", 50));
    rows.push(all("told to 99 %", 99).target(Target::AtMost(1000.0)));
    rows.push(all("told to the last", 100));
    rows.push(Row::new(
        "CPU of the edge to tell one stream",
        "µs",
        &each(&|round| round.telling_cpu),
    ));
    rows
}
