//! A closed loop of concurrent clients on a thread of its own, so that what
//! making the load costs is known.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use tokio::time::Instant;

use crate::cpu::{self, LOAD_GENERATOR, Part, Processes};

/// Somebody who asks again as soon as there is an answer.
pub(crate) trait Client: Send + 'static {
    /// One request; an answer that is not the expected one is an error.
    fn call(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// How long to measure, and what takes part.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Load before anything counts.
    pub(crate) warm_up: Duration,
    /// Load that counts.
    pub(crate) duration: Duration,
    /// Processes whose CPU time is told; that of one name as one.
    pub(crate) parts: Vec<Part>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Answers per second.
    pub(crate) rate: f64,
    /// Median time to the answer, µs.
    pub(crate) p50_us: f64,
    /// 99th percentile, µs.
    pub(crate) p99_us: f64,
    /// CPU time per request by part, µs.
    pub(crate) cpu_us: BTreeMap<&'static str, f64>,
    /// All answers, warm-up and end included.
    pub(crate) answers: u64,
}

/// One answer, in µs since the beginning.
#[derive(Debug, Clone, Copy)]
struct Answer {
    at: u64,
    latency: u32,
}

/// Time and CPU time at the beginning or end of what counts.
struct Mark {
    at: u64,
    cpu: Vec<(&'static str, Duration)>,
}

/// Lets the clients that `connect` makes ask until the time is over.
///
/// # Errors
/// The first wrong answer of any client.
pub(crate) fn run<C: Client, F>(plan: &Plan, connect: impl FnOnce() -> F + Send) -> Result<Outcome>
where
    F: Future<Output = Result<Vec<C>>> + Send,
{
    let connecting = async { generate(plan, connect().await?).await };
    on_own_thread(connecting)
}

/// Runs a future to its end on a thread with a runtime of its own.
pub(crate) fn on_own_thread<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(future)
    };
    thread::scope(|scope| scope.spawn(run).join())
        .map_err(|_| anyhow!("the load generator panicked"))?
}

/// The same on the runtime that calls this.
pub(crate) async fn generate<C: Client>(plan: &Plan, clients: Vec<C>) -> Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(ask(client, began, stop.clone())))
        .collect();
    tokio::time::sleep(plan.warm_up).await;
    let from = Mark::now(began, &plan.parts);
    tokio::time::sleep(plan.duration).await;
    let to = Mark::now(began, &plan.parts);
    stop.store(true, Ordering::Relaxed);
    let mut answers = Vec::new();
    for task in tasks {
        answers.append(&mut task.await??);
    }
    Outcome::of(&answers, &from?, &to?)
}

async fn ask<C: Client>(
    mut client: C,
    began: Instant,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(1024);
    while !stop.load(Ordering::Relaxed) {
        let asked = micros(began.elapsed());
        client.call().await?;
        let at = micros(began.elapsed());
        answers.push(Answer {
            at,
            latency: u32::try_from(at - asked).unwrap_or(u32::MAX),
        });
    }
    Ok(answers)
}

impl Mark {
    fn now(began: Instant, parts: &[Part]) -> Result<Self> {
        let mut used = vec![(LOAD_GENERATOR, cpu::of_this_thread())];
        if !parts.is_empty() {
            let processes = Processes::look()?;
            for part in parts {
                used.push((part.name, processes.of_tree(part.pid)?));
            }
        }
        Ok(Self {
            at: micros(began.elapsed()),
            cpu: used,
        })
    }
}

impl Outcome {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and µs far below what a float holds exactly"
    )]
    fn of(answers: &[Answer], from: &Mark, to: &Mark) -> Result<Self> {
        let mut latencies: Vec<u32> = answers
            .iter()
            .filter(|answer| (from.at..to.at).contains(&answer.at))
            .map(|answer| answer.latency)
            .collect();
        latencies.sort_unstable();
        let count = latencies.len();
        let percentile = |percent: usize| {
            let index = (count * percent / 100).min(count.saturating_sub(1));
            latencies.get(index).copied().map(f64::from)
        };
        let mut cpu_us = BTreeMap::new();
        for ((name, from), (_, to)) in from.cpu.iter().zip(&to.cpu) {
            let used = to.saturating_sub(*from);
            *cpu_us.entry(*name).or_default() += used.as_secs_f64() * 1e6 / count as f64;
        }
        Ok(Self {
            rate: count as f64 * 1e6 / (to.at - from.at) as f64,
            p50_us: percentile(50).context("nothing was answered in time")?,
            p99_us: percentile(99).context("nothing was answered in time")?,
            cpu_us,
            answers: answers.len() as u64,
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
