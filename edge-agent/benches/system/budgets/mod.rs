//! Budgets: setting an amount aside and settling it, in process, by REST and by MCP, beside
//! `INCRBY` of a Redis that keeps a log and `UPDATE … RETURNING` on the same PostgreSQL; what
//! the control plane has to do meanwhile, and how long a refill takes.

mod asker;
mod desk;
mod local;
mod redis;
mod refill;
mod rows;
mod site;
mod threads;

use anyhow::Result;

use crate::{
    args::Args,
    load::Outcome,
    pgbench::{Pgbench, Transaction},
    progress,
    report::Section,
    trivial::{Kind, Trivial},
};
use local::{Budgets, Local};
use redis::{Redis, Sync};
use site::Site;

/// What is set aside at once …
const RESERVED: u64 = 100;
/// … and what it comes to.
const SPENT: u64 = 80;
/// Concurrent clients.
const CLIENTS: [usize; 2] = [1, 64];
/// So many budgets does the edge spend from while the control plane is looked at.
const BUDGETS: usize = 8;

/// Rounds; arrays are by [`CLIENTS`].
#[derive(Default)]
struct Samples {
    /// The log on disk every second, as Redis does where nothing else is said …
    everysec: [Vec<Outcome>; 2],
    /// … and before every answer.
    always: [Vec<Outcome>; 2],
    updates: [Vec<f64>; 2],
    /// One thread; one for each core on one budget; likewise, each on its own.
    local: [Vec<Outcome>; 3],
    bare_rest: [Vec<Outcome>; 2],
    rest: [Vec<Outcome>; 2],
    bare_mcp: [Vec<Outcome>; 2],
    mcp: [Vec<Outcome>; 2],
    /// Exchanges of slices per second, while so many clients spend from several budgets.
    exchanges: [Vec<f64>; 2],
    /// How long a caller waits where there is nothing here, ms: median and p99.
    refills: Vec<[f64; 2]>,
}

/// Measures it.
pub(crate) async fn run(args: &Args) -> Result<Section> {
    let mut site = Site::start(args).await?;
    let pgbench = Pgbench::prepare(site.postgres()).await?;
    let bare_rest = Trivial::start(Kind::Budget)?;
    let bare_mcp = site.bare_mcp()?;
    let redis = Redis::start()?;
    site.compare(&bare_rest, &bare_mcp).await?;
    let threads = std::thread::available_parallelism()?.get();
    let mut samples = Samples::default();
    for round in 1..=args.rounds() {
        progress!("budgets: round {round}");
        site.postgres().execute(&["CHECKPOINT"]).await?;
        let ways = [
            (1, Budgets::One),
            (threads, Budgets::One),
            (threads, Budgets::OneEach),
        ];
        // ratios are of neighbours in time
        for (at, (threads, budgets)) in ways.into_iter().enumerate() {
            samples.local[at].push(Local::measure(args, threads, budgets)?);
        }
        for (at, clients) in CLIENTS.into_iter().enumerate() {
            samples.everysec[at].push(redis.run(args, Sync::EverySecond, clients)?);
            samples.always[at].push(redis.run(args, Sync::Always, clients)?);
            let updates = pgbench.run(Transaction::OneUpdate, clients, args.duration())?;
            samples.updates[at].push(updates.rate);
            samples.bare_rest[at].push(site.bare_rest_of(args, &bare_rest, clients)?);
            samples.rest[at].push(site.rest(args, clients)?);
            samples.bare_mcp[at].push(site.bare_mcp_of(args, &bare_mcp, clients)?);
            samples.mcp[at].push(site.mcp(args, clients)?);
            samples.exchanges[at].push(site.exchanges(args, clients).await?);
        }
        samples.refills.push(site.refills(args).await?);
    }
    progress!("budgets: commits");
    let commits = site.commits(args).await?;
    site.check_spent().await?;
    Ok(Section {
        name: "budgets",
        title: "an amount set aside at an edge and settled there, against Redis and PostgreSQL counting it",
        rows: samples.rows(threads, &commits),
    })
}
