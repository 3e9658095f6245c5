//! A closed loop of threads that each call something over and over, for what answers too soon
//! to be waited for in tasks.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use tokio::time::Instant;

use crate::{
    cpu::{self, Processes},
    load::{Outcome, Plan},
};

/// What one thread has seen.
struct Seen {
    /// ns of each call that counts.
    latencies: Vec<u32>,
    cpu: Duration,
    /// All calls, those before anything counts included.
    calls: u64,
}

/// Lets each of these call until the time is over; `own`: whose the CPU time of the threads is.
///
/// # Errors
/// The first failure of any of them.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts far below what a float holds exactly"
)]
pub(super) fn run<C>(plan: &Plan, own: &'static str, callers: Vec<C>) -> Result<Outcome>
where
    C: FnMut() -> Result<()> + Send,
{
    let (from, parts) = (Instant::now() + plan.warm_up, &plan.parts);
    let to = from + plan.duration;
    let (seen, used) = thread::scope(|scope| -> Result<_> {
        let begin = |caller| scope.spawn(move || call(caller, from, to));
        let threads: Vec<_> = callers.into_iter().map(begin).collect();
        thread::sleep(from.saturating_duration_since(Instant::now()));
        let before = Processes::look()?;
        thread::sleep(to.saturating_duration_since(Instant::now()));
        let after = Processes::look()?;
        let used = parts.iter().map(|part| {
            let used = after.of_tree(part.pid)?;
            Ok((part.name, used.saturating_sub(before.of_tree(part.pid)?)))
        });
        let used: Vec<(&'static str, Duration)> = used.collect::<Result<_>>()?;
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Seen>>| {
            thread.join().map_err(|_| anyhow!("a caller panicked"))?
        };
        let seen: Vec<Seen> = threads.into_iter().map(join).collect::<Result<_>>()?;
        Ok((seen, used))
    })?;
    let all = seen.iter().flat_map(|seen| &seen.latencies);
    let mut latencies: Vec<u32> = all.copied().collect();
    latencies.sort_unstable();
    let count = latencies.len();
    let percentile = |percent: usize| {
        let index = (count * percent / 100).min(count.saturating_sub(1));
        let latency = latencies.get(index).copied();
        latency.map(|nanos| f64::from(nanos) / 1e3)
    };
    let of_threads = seen.iter().map(|seen| seen.cpu).sum::<Duration>();
    let cpu_us: BTreeMap<&'static str, f64> = used
        .into_iter()
        .chain([(own, of_threads)])
        .map(|(name, used)| (name, used.as_secs_f64() * 1e6 / count as f64))
        .collect();
    Ok(Outcome {
        rate: count as f64 / plan.duration.as_secs_f64(),
        p50_us: percentile(50).context("nothing was answered in time")?,
        p99_us: percentile(99).context("nothing was answered in time")?,
        cpu_us,
        answers: seen.iter().map(|seen| seen.calls).sum(),
    })
}

fn call(mut caller: impl FnMut() -> Result<()>, from: Instant, to: Instant) -> Result<Seen> {
    let mut calls = 0;
    while Instant::now() < from {
        caller()?;
        calls += 1;
    }
    let before = cpu::of_this_thread();
    let mut latencies = Vec::with_capacity(1 << 20);
    let mut asked = Instant::now();
    loop {
        caller()?;
        calls += 1;
        let answered = Instant::now();
        if answered > to {
            break;
        }
        let took = answered.duration_since(asked).as_nanos();
        latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
        asked = answered;
    }
    Ok(Seen {
        latencies,
        cpu: cpu::of_this_thread().saturating_sub(before),
        calls,
    })
}
