//! An edge's slices in this process: with its journal on disk, and without faces.

use std::{pin::pin, sync::Arc, thread, time::Duration};

use anyhow::{Result, anyhow, ensure};
use authguardian_proto::{
    ids::{AgentId, TaskId},
    reason::Problem,
};
use edge_agent::{clock::Ambient, slices::Slices};
use futures::{FutureExt, executor::block_on};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use super::{RESERVED, SPENT, desk::Desk, threads};
use crate::{
    args::Args,
    cpu,
    load::{Outcome, Plan},
    system::AGENT,
};

/// As long as the first refills take until they are as large as what is spent.
const WARM_UP: Duration = Duration::from_millis(1_500);
/// As an allocation that nobody gave another.
const TTL: Duration = Duration::from_mins(5);

/// Whether threads share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budgets {
    /// All spend from the same.
    One,
    /// Each has one for itself.
    OneEach,
}

/// One of the threads.
pub(super) struct Local {
    slices: Arc<Slices>,
    agent: AgentId,
    task: TaskId,
}

impl Local {
    /// Sets aside and settles by so many threads.
    pub(super) fn measure(args: &Args, threads: usize, budgets: Budgets) -> Result<Outcome> {
        let plan = Plan {
            warm_up: WARM_UP,
            ..args.plan(&[])
        };
        // a runtime does not begin within another
        let measuring = || measure(&plan, threads, budgets);
        let measured = thread::scope(|scope| scope.spawn(measuring).join());
        measured.map_err(|_| anyhow!("the callers panicked"))?
    }

    async fn pair(&self) -> Result<()> {
        let pair = async {
            let (slices, agent, task) = (&self.slices, &self.agent, &self.task);
            let reserved = slices.reserve(agent, task, RESERVED, TTL, None).await?;
            let reservation = reserved.reservation;
            slices.settle(agent, task, reservation, SPENT).await
        };
        let settled = pair.await.map_err(|problem| told(&problem))?;
        ensure!(settled.recorded == SPENT && settled.overdraft == 0);
        Ok(())
    }
}

fn measure(plan: &Plan, threads: usize, budgets: Budgets) -> Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let slices = Slices::open(dir.path(), Ambient::system()?)?;
    slices.begin(1);
    // what an edge does beside the calls
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let stop = CancellationToken::new();
    let keeping = keep(slices.clone());
    runtime.spawn(stop.clone().run_until_cancelled_owned(keeping));
    let tending = runtime.spawn(slices.clone().tend(stop.clone()));
    let caller = |number: usize| -> Result<_> {
        let task = match budgets {
            Budgets::One => "bench".to_owned(),
            Budgets::OneEach => format!("bench-{number}"),
        };
        let local = Local {
            slices: slices.clone(),
            agent: AGENT.parse()?,
            task: task.parse()?,
        };
        Ok(calls(local, runtime.handle().clone()))
    };
    let callers = (0..threads).map(caller).collect::<Result<_>>()?;
    let outcome = threads::run(plan, cpu::EDGE, callers)?;
    stop.cancel();
    runtime.block_on(tending)?;
    Ok(outcome)
}

/// What a thread does over and over: it waits only where the slices do.
fn calls(local: Local, handle: Handle) -> impl FnMut() -> Result<()> + Send {
    move || {
        let _timers = handle.enter();
        let mut pair = pin!(local.pair());
        match pair.as_mut().now_or_never() {
            Some(done) => done,
            None => block_on(pair),
        }
    }
}

async fn keep(slices: Arc<Slices>) {
    let mut desk = Desk::default();
    loop {
        let round = slices.round().await;
        let answer = desk.answer(round.request());
        slices.take(round, answer).await;
    }
}

fn told(problem: &Problem) -> anyhow::Error {
    anyhow!("{}: {}", problem.reason, problem.detail)
}
