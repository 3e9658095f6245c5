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
    let during = During::count(args, postgres, plan, connect).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let per_thousand = during.commits * 1e3 / during.answers as f64;
    Ok((per_thousand, during.answers))
}

/// What a load makes PostgreSQL commit.
pub(crate) struct During {
    /// Commits that there are for the load.
    commits: f64,
    /// How long it took, seconds.
    seconds: f64,
    /// Commits per second when nothing is asked of the system.
    pub(crate) idle: f64,
    /// Of the load.
    pub(crate) answers: u64,
}

impl During {
    /// Counts.
    ///
    /// # Errors
    /// As the load.
    pub(crate) async fn count<C: Client, F>(
        args: &Args,
        postgres: &Postgres,
        plan: &Plan,
        connect: impl FnOnce() -> F + Send,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Vec<C>>> + Send,
    {
        let before = Count::settled(args, postgres).await?;
        let idle = Count::settled(args, postgres).await?;
        let outcome = load::run(plan, connect)?;
        let after = Count::settled(args, postgres).await?;
        let per_second = before.per_second_until(&idle);
        let by_itself = per_second * idle.seconds_until(&after);
        Ok(Self {
            commits: (idle.commits_until(&after) - by_itself).max(0.0),
            seconds: (plan.warm_up + plan.duration).as_secs_f64(),
            idle: per_second,
            answers: outcome.answers,
        })
    }

    /// All commits per second while there is the load.
    pub(crate) fn per_second(&self) -> f64 {
        self.idle + self.commits / self.seconds
    }
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
