//! Many edges spend from eight budgets while processes are killed and stopped, networks cut,
//! answers lost and disks destroyed: what was acknowledged is what the control planes come
//! to, and never more than a total is set aside. A round of each fault on a few edges, or
//! random ones on fifty for as long as `AUTHGUARDIAN_FAULT_SECONDS` says (`make soak`), by
//! `AUTHGUARDIAN_FAULT_SEED`.

mod fault;
mod judge;
mod spender;
mod tally;
mod task;
mod world;

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::board_faults::dice::Dice;

use fault::Fault;
use spender::Spender;
use tally::Tally;
use world::World;

const SECONDS: &str = "AUTHGUARDIAN_FAULT_SECONDS";
const SEED: &str = "AUTHGUARDIAN_FAULT_SEED";

/// Edges, and spenders at each of them: in a test among others, and in a soak.
const FEW: (usize, usize) = (8, 2);
const MANY: (usize, usize) = (50, 2);

/// What was acknowledged after a fault is over, before the next.
const BETWEEN: usize = 100;

/// How often an agent spends in the world that is made to pass quickly here.
const EVERY: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_what_was_spent_whatever_fails() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seconds: Option<u64> = number(SECONDS);
    let seed = number(SEED).unwrap_or(9);
    println!("{SEED}={seed}");
    let mut dice = Dice::new(seed);
    let (edges, each) = if seconds.is_some() { MANY } else { FEW };
    let began = Instant::now();
    let mut world = World::start(edges).await;
    println!(
        "{edges} edges, two control planes and PostgreSQL run after {} s",
        began.elapsed().as_secs()
    );

    let began = Instant::now();
    let (tally, stop) = (Arc::new(Tally::new(edges)), CancellationToken::new());
    let mut spenders = JoinSet::new();
    for number in 0..edges * each {
        let target = world.target(number % edges);
        let dice = Dice::new(dice.next());
        let spender = Spender::new(number, target, tally.clone(), dice, stop.clone());
        spenders.spawn(spender.work());
    }
    tally.acknowledges(BETWEEN).await;
    let mut kinds = fault::ALL.to_vec();
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    while !kinds.is_empty() || Instant::now() < until {
        // each of them once, and then again
        if kinds.is_empty() {
            kinds = fault::ALL.to_vec();
        }
        let at = dice.below(kinds.len() as u64);
        let fault = kinds.swap_remove(usize::try_from(at).unwrap());
        tried(fault, &mut world, &tally, &mut dice).await;
    }
    stop.cancel();
    let left = spenders.join_all().await;
    let spending = began.elapsed();
    assert!(left.iter().all(|open| *open == 0), "not all was settled");

    judge::judge(&world, &tally).await;
    let heard = tally.heard();
    println!("{heard}");
    let hours = heard.settled as u64 * EVERY.as_secs() / (edges * each) as u64 / 3600;
    println!(
        "in {} s, and judged {} s later: as much as {} agents settle in {hours} hours at one in {} s each",
        spending.as_secs(),
        began.elapsed().saturating_sub(spending).as_secs(),
        edges * each,
        EVERY.as_secs()
    );
}

#[expect(clippy::print_stdout, reason = "the figures are what a soak is for")]
async fn tried(fault: Fault, world: &mut World, tally: &Tally, dice: &mut Dice) {
    let (began, before) = (Instant::now(), tally.heard());
    fault.pass(world, tally, dice).await;
    tally.acknowledges(BETWEEN).await;
    let after = tally.heard();
    println!(
        "{fault:?}: {} ms, {} settled, {} unknown",
        began.elapsed().as_millis(),
        after.settled - before.settled,
        after.unknown - before.unknown
    );
    tally.is_sound();
}
