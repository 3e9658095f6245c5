//! What happens without anybody asking: input-free, idempotent, bounded
//! activations, each of its own period, run by one driver. Every control plane
//! runs them all; each is safe beside itself.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{Refusals, retention, seal::Sealer},
    blackboard::Blackboard,
    budgets::Budgets,
    clock::Ambient,
    db::{self, Db},
    error::Result,
    events,
    grants::Grants,
    identity::Identity,
    registry::Registry,
};

/// Most rows that one activation touches.
const LIMIT: i64 = 5000;

/// How long changes are kept for readers that come back.
const CHANGES_KEPT: time::Duration = time::Duration::hours(24);

/// What the jobs work on.
#[derive(Debug, Clone)]
pub struct Jobs {
    /// The database.
    pub db: Db,
    /// Time.
    pub ambient: Ambient,
    /// Sessions, nonces and our own keys.
    pub identity: Identity,
    /// Grants.
    pub grants: Grants,
    /// Leases of edges and agents.
    pub registry: Registry,
    /// Boards, and what ends on them.
    pub blackboard: Blackboard,
    /// Budgets, and who is silent.
    pub budgets: Budgets,
    /// Refused calls on their way to the log.
    pub refusals: Arc<Refusals>,
    /// What is committed on its way into the tree of the log.
    pub sealer: Arc<Sealer>,
}

/// One kind of activation: how often, and what; it returns how many it touched.
type Job = (
    &'static str,
    Duration,
    fn(Jobs) -> BoxFuture<'static, Result<u64>>,
);

const JOBS: [Job; 22] = [
    ("observe_quorum", Duration::from_secs(1), |jobs| {
        Box::pin(observe_quorum(jobs))
    }),
    ("expire_grants", Duration::from_secs(1), |jobs| {
        Box::pin(expire_grants(jobs))
    }),
    ("flush_refusals", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.refusals.flush().await })
    }),
    ("seal_audit_log", Duration::from_millis(100), |jobs| {
        Box::pin(async move { jobs.sealer.run().await })
    }),
    ("sweep_audit_log", Duration::from_mins(1), |jobs| {
        Box::pin(async move { retention::sweep(&jobs.db, &jobs.ambient).await })
    }),
    ("reload_keys", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.identity.reload_keys().await.map(u64::from) })
    }),
    ("reload_standings", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.identity.reload_standings().await.map(u64::from) })
    }),
    ("reload_ended_sessions", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.identity.reload_ended_sessions().await.map(|()| 0) })
    }),
    ("raise_time_floor", Duration::from_secs(10), |jobs| {
        Box::pin(raise_time_floor(jobs))
    }),
    ("expire_entries", Duration::from_millis(200), |jobs| {
        Box::pin(async move { jobs.blackboard.sweep().await })
    }),
    ("compact_boards", Duration::from_mins(1), |jobs| {
        Box::pin(async move { jobs.blackboard.compact().await })
    }),
    ("collect_tombstones", Duration::from_mins(1), |jobs| {
        Box::pin(async move { jobs.blackboard.collect_tombstones().await })
    }),
    ("fence_silent", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.budgets.fence_silent().await })
    }),
    ("release_held", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.budgets.release_held().await })
    }),
    ("carry_over", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.budgets.carry_over().await })
    }),
    ("count_children", Duration::from_secs(1), |jobs| {
        Box::pin(async move { jobs.budgets.count_children().await })
    }),
    ("forget_budget_history", Duration::from_mins(1), |jobs| {
        Box::pin(async move { jobs.budgets.forget_history().await })
    }),
    ("forget_requests", Duration::from_mins(1), |jobs| {
        Box::pin(forget_requests(jobs))
    }),
    ("forget_sessions", Duration::from_mins(1), |jobs| {
        Box::pin(forget_sessions(jobs))
    }),
    ("drop_retired_keys", Duration::from_mins(1), |jobs| {
        Box::pin(async move { jobs.identity.drop_retired_keys().await })
    }),
    ("forget_agents", Duration::from_mins(1), |jobs| {
        Box::pin(async move { jobs.registry.forget(LIMIT).await })
    }),
    ("compact_changes", Duration::from_mins(1), |jobs| {
        Box::pin(compact_changes(jobs))
    }),
];

impl Jobs {
    /// Starts all jobs until `stop`; their tasks are counted in `tasks`.
    pub fn start(self, tasks: &TaskTracker, stop: &CancellationToken) {
        let jobs = Arc::new(self);
        // as often as the configured times need
        let sweep: Job = ("judge_agents", jobs.registry.timing().sweep(), |jobs| {
            Box::pin(async move { jobs.registry.sweep().await })
        });
        tasks.spawn(drive(Arc::clone(&jobs), sweep, stop.clone()));
        for job in JOBS {
            tasks.spawn(drive(Arc::clone(&jobs), job, stop.clone()));
        }
    }
}

async fn drive(jobs: Arc<Jobs>, (name, period, run): Job, stop: CancellationToken) {
    let mut failed = false;
    loop {
        // a job must not wait for ever on a server that hangs
        match jobs.db.unless_lost(run((*jobs).clone())).await {
            Ok(touched) => {
                failed = false;
                if touched > 0 {
                    tracing::trace!(job = name, touched, "job done");
                }
            }
            // once, not each second for as long as a database is away
            Err(error) if !failed => {
                failed = true;
                tracing::warn!(job = name, %error, cause = error.cause().map(tracing::field::display), "job failed");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(period.mul_f64(jobs.ambient.entropy.jitter())) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn observe_quorum(jobs: Jobs) -> Result<u64> {
    match jobs.db.read().await {
        Ok(mut connection) => jobs.db.quorum.observe(&mut connection).await.map(|_| 0),
        Err(error) => {
            jobs.db.quorum.lost();
            Err(error)
        }
    }
}

async fn expire_grants(jobs: Jobs) -> Result<u64> {
    Ok(jobs.grants.sweep_expired(LIMIT).await? as u64)
}

async fn raise_time_floor(jobs: Jobs) -> Result<u64> {
    let mut tx = jobs.db.begin().await?;
    events::epoch::raise_time_floor(&mut tx, jobs.ambient.clock.now()).await?;
    jobs.db.quorum.commit(tx).await?;
    Ok(0)
}

async fn forget_requests(jobs: Jobs) -> Result<u64> {
    let mut tx = jobs.db.begin().await?;
    let forgotten = db::request::forget_old(&mut tx, jobs.ambient.clock.now(), LIMIT).await?;
    jobs.db.quorum.commit(tx).await?;
    Ok(forgotten)
}

async fn forget_sessions(jobs: Jobs) -> Result<u64> {
    jobs.identity.forget_ended(LIMIT).await
}

async fn compact_changes(jobs: Jobs) -> Result<u64> {
    let mut tx = jobs.db.begin().await?;
    let compacted =
        events::compact(&mut tx, jobs.ambient.clock.now() - CHANGES_KEPT, LIMIT).await?;
    jobs.db.quorum.commit(tx).await?;
    Ok(compacted)
}
