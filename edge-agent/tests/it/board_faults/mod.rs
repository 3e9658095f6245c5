//! A strong board on a quorum cluster keeps its promises while processes are
//! killed and stopped, networks cut and primaries moved: what clients over REST
//! and gRPC and watchers were told is judged by `authguardian-history`. One
//! round of each fault, or random ones for as long as `AUTHGUARDIAN_FAULT_SECONDS`
//! says, by `AUTHGUARDIAN_FAULT_SEED` (`make soak`); `AUTHGUARDIAN_FAULT_KINDS`
//! names some of them (`EtcdKilled,Switchover`).

mod alone;
mod beside;
mod client;
mod contended;
pub(crate) mod dice;
mod fault;
mod grpc;
mod load;
mod progress;
mod reason;
mod rest;
mod round;
mod system;
mod told;
mod watcher;
mod way;

use std::{collections::BTreeMap, time::Duration};

use authguardian_history::check::Report;
use tokio::time::Instant;

use dice::Dice;
use fault::Fault;
use round::Figures;
use system::System;

const SECONDS: &str = "AUTHGUARDIAN_FAULT_SECONDS";
const SEED: &str = "AUTHGUARDIAN_FAULT_SEED";
const KINDS: &str = "AUTHGUARDIAN_FAULT_KINDS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stdout, reason = "the figures are what a soak is for")]
async fn a_strong_board_keeps_its_promises_whatever_fails() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seconds: Option<u64> = number(SECONDS);
    let seed = number(SEED).unwrap_or_else(some_seed);
    println!("{SEED}={seed}");
    let (mut dice, kinds) = (Dice::new(seed), kinds());
    let mut system = System::start().await;
    let mut all = Vec::new();
    match seconds {
        None => {
            for fault in kinds {
                all.push(tried(&mut system, fault, all.len(), &mut dice).await);
            }
        }
        Some(seconds) => {
            let until = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < until {
                let fault = dice.pick(&kinds);
                all.push(tried(&mut system, fault, all.len(), &mut dice).await);
            }
        }
    }
    println!("{}", summary(&all));
    let late: Vec<String> = all
        .iter()
        .filter(|figures| !figures.is_back_in_time())
        .map(ToString::to_string)
        .collect();
    // a test among others has no machine that times could be asserted on
    assert!(
        seconds.is_none() || late.is_empty(),
        "strong work was away for too long: {late:#?}"
    );
}

#[expect(clippy::print_stdout, reason = "the figures are what a soak is for")]
async fn tried(system: &mut System, fault: Fault, number: usize, dice: &mut Dice) -> Figures {
    println!("round {}: {fault:?}", number + 1);
    let figures = round::run(system, fault, &format!("round-{number}"), dice).await;
    println!("round {}: {figures}", number + 1);
    figures
}

/// Those that are asked for; else all.
fn kinds() -> Vec<Fault> {
    let Ok(named) = std::env::var(KINDS) else {
        return fault::ALL.to_vec();
    };
    let is_named = |fault: &Fault| named.split(',').any(|name| name == format!("{fault:?}"));
    fault::ALL.into_iter().filter(is_named).collect()
}

/// One that differs from process to process.
fn some_seed() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec.unsigned_abs() ^ u64::from(std::process::id()) << 32
}

fn summary(all: &[Figures]) -> String {
    let sum = |figure: fn(&Report) -> usize| -> usize {
        all.iter().map(|figures| figure(&figures.report)).sum()
    };
    let mut rounds: BTreeMap<String, usize> = BTreeMap::new();
    for figures in all {
        *rounds.entry(format!("{:?}", figures.fault)).or_default() += 1;
    }
    let outages = all.iter().filter_map(|figures| figures.outage);
    let back: Vec<u128> = outages.map(|outage| outage.late().as_millis()).collect();
    format!(
        "{} rounds {rounds:?}: {} operations, {} acknowledged, {} refused, {} unknown for good, {} watch messages; \
         beside them {} calls of sessions and {} writes that merged; no violation, no acknowledged write lost; strong work back {} ms after PostgreSQL and Patroni at most ({} failovers)",
        all.len(),
        sum(|report| report.operations),
        sum(|report| report.acknowledged),
        sum(|report| report.refused),
        sum(|report| report.unknown),
        sum(|report| report.messages),
        all.iter()
            .map(|figures| figures.beside.sessions)
            .sum::<usize>(),
        all.iter()
            .map(|figures| figures.beside.merged)
            .sum::<usize>(),
        back.iter().max().unwrap_or(&0),
        back.len(),
    )
}
