//! How many transactions a load makes PostgreSQL commit.

use std::time::Duration;

use anyhow::Result;
use control_plane::db::private_postgres::DATABASE;
use tokio::time::Instant;

use crate::{
    args::Args,
    load::{self, Client, Plan},
    postgres::Postgres,
};

/// The control plane's; this bench asks from another database.
const COMMITS: &str = "SELECT xact_commit FROM pg_stat_database WHERE datname = ";

/// Commits per 1,000 answers of a load, less what the system commits when
/// nothing is asked of it.
///
/// # Errors
/// As the load.
pub(crate) async fn per_thousand<C: Client, F>(
    args: &Args,
    postgres: &Postgres,
    plan: &Plan,
    connect: impl FnOnce() -> F + Send,
) -> Result<(f64, u64)>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let (commits, answers) = during(args, postgres, plan, connect).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let per_thousand = commits * 1e3 / answers as f64;
    Ok((per_thousand, answers))
}

/// Commits per second of a load, likewise; and how many answers it had.
///
/// # Errors
/// As the load.
pub(crate) async fn per_second<C: Client, F>(
    args: &Args,
    postgres: &Postgres,
    plan: &Plan,
    connect: impl FnOnce() -> F + Send,
) -> Result<(f64, u64)>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let (commits, answers) = during(args, postgres, plan, connect).await?;
    let took = plan.warm_up + plan.duration;
    Ok((commits / took.as_secs_f64(), answers))
}

async fn during<C: Client, F>(
    args: &Args,
    postgres: &Postgres,
    plan: &Plan,
    connect: impl FnOnce() -> F + Send,
) -> Result<(f64, u64)>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let before = Count::settled(args, postgres).await?;
    let idle = Count::settled(args, postgres).await?;
    let outcome = load::run(plan, connect)?;
    let after = Count::settled(args, postgres).await?;
    let by_itself = before.per_second_until(&idle) * idle.seconds_until(&after);
    let commits = (idle.commits_until(&after) - by_itself).max(0.0);
    Ok((commits, outcome.answers))
}

struct Count {
    commits: i64,
    at: Instant,
}

impl Count {
    /// An idle session tells its last commits 10 s after them
    /// (`PGSTAT_IDLE_INTERVAL`).
    async fn settled(args: &Args, postgres: &Postgres) -> Result<Self> {
        let settling = if args.quick { 1 } else { 11 };
        tokio::time::sleep(Duration::from_secs(settling)).await;
        let query = format!("{COMMITS}'{DATABASE}'");
        Ok(Self {
            commits: postgres.number("postgres", &query).await?,
            at: Instant::now(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    fn commits_until(&self, later: &Self) -> f64 {
        (later.commits - self.commits) as f64
    }

    fn seconds_until(&self, later: &Self) -> f64 {
        later.at.duration_since(self.at).as_secs_f64()
    }

    fn per_second_until(&self, later: &Self) -> f64 {
        self.commits_until(later) / self.seconds_until(later)
    }
}
