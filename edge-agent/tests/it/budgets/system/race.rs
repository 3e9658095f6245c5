//! Many spenders race for one budget through several edges: never more than there is, and
//! all of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};

use super::site::{Site, comes_to, create, open, reserve, settle};
use crate::{board_faults::dice::Dice, edge::RestClient};

const TOTAL: u64 = 10_000;
const SPENDERS: u64 = 16;
const EDGES: usize = 3;

/// What a spender asks for.
#[derive(Debug, Clone, Copy)]
enum Amounts {
    Always(u64),
    /// 1 to so much, as dice fall.
    UpTo(u64),
}

#[tokio::test]
async fn sixteen_spenders_at_three_edges_spend_all_of_a_budget_and_no_more() {
    let (control_plane, api_key) = open(30).await;
    let mut clients = Vec::new();
    let mut sites = Vec::new();
    for number in 0..EDGES {
        let site = Site::start(&control_plane, &format!("m{number}"), &api_key).await;
        clients.push(site.client.clone());
        sites.push(site);
    }
    for (task, amounts) in [
        ("ones", Amounts::Always(1)),
        ("sevens", Amounts::Always(7)),
        ("random", Amounts::UpTo(50)),
    ] {
        create(&control_plane, task, TOTAL).await;
        let spent = race(task, amounts, &clients).await;
        let least = match amounts {
            Amounts::Always(amount) => TOTAL - TOTAL % amount,
            // whoever finds too little takes less
            Amounts::UpTo(_) => TOTAL,
        };
        assert_eq!(spent, least, "{task}");
        let told = |view: &control_plane::budgets::View| view.account.reported == spent;
        let view = comes_to(&control_plane, task, "all is told", told).await;
        assert_eq!(view.account.overdraft, 0, "{view:?}");
    }
}

/// What all of them have spent of it.
#[expect(clippy::print_stdout, reason = "says how long it takes")]
async fn race(task: &'static str, amounts: Amounts, clients: &[RestClient]) -> u64 {
    let began = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let mut spenders = JoinSet::new();
    for number in 0..SPENDERS {
        let client = &clients[usize::try_from(number).unwrap() % clients.len()];
        let spender = Spender {
            client: client.clone(),
            task,
            amounts,
            taken: taken.clone(),
            dice: Dice::new(number),
        };
        spenders.spawn(spender.spend());
    }
    let (mut spent, mut refused, mut slow, mut slowest) = (0, 0, 0, Duration::ZERO);
    for done in spenders.join_all().await {
        spent += done.spent;
        refused += done.refused;
        slow += done.slow;
        slowest = slowest.max(done.slowest);
    }
    println!(
        "{task}: {spent} of {TOTAL} in {} ms, {refused} times refused although there was enough, {slow} times more than 250 ms, {} ms at most",
        began.elapsed().as_millis(),
        slowest.as_millis()
    );
    spent
}

struct Spender {
    client: RestClient,
    task: &'static str,
    amounts: Amounts,
    /// By all of them.
    taken: Arc<AtomicU64>,
    dice: Dice,
}

/// What came of one.
#[derive(Debug, Default)]
struct Done {
    spent: u64,
    /// Although there was enough.
    refused: u64,
    slow: u64,
    /// Until something was set aside.
    slowest: Duration,
}

impl Spender {
    async fn spend(mut self) -> Done {
        let mut done = Done::default();
        while let Some(mut amount) = self.amount() {
            let began = Instant::now();
            let reservation = loop {
                match reserve(&self.client, self.task, amount).await {
                    Ok(reservation) => break Some(reservation),
                    Err(problem) => {
                        let reason = problem["reason"].as_str().unwrap();
                        // a control plane that is slow to answer; no lease ends here
                        let expected = ["BUDGET_EXHAUSTED", "UNAVAILABLE"];
                        assert!(expected.contains(&reason), "{problem}");
                        let left = self.left();
                        done.refused += u64::from(left >= amount);
                        match self.amounts {
                            Amounts::Always(_) if left < amount => break None,
                            Amounts::UpTo(_) if left == 0 => break None,
                            Amounts::Always(_) => {}
                            Amounts::UpTo(_) => amount = amount.min(left),
                        }
                    }
                }
            };
            let Some(reservation) = reservation else {
                break;
            };
            let took = began.elapsed();
            done.slow += u64::from(took > Duration::from_millis(250));
            done.slowest = done.slowest.max(took);
            let taken = self.taken.fetch_add(amount, Ordering::SeqCst) + amount;
            assert!(taken <= TOTAL, "{taken} of {TOTAL} are set aside");
            settle(&self.client, self.task, &reservation, amount).await;
            done.spent += amount;
        }
        done
    }

    /// The next one; `None`: there is not so much left.
    fn amount(&mut self) -> Option<u64> {
        let left = self.left();
        match self.amounts {
            Amounts::Always(amount) => (left >= amount).then_some(amount),
            Amounts::UpTo(most) => (left > 0).then(|| (self.dice.below(most) + 1).min(left)),
        }
    }

    /// What nobody was told to have.
    fn left(&self) -> u64 {
        TOTAL - self.taken.load(Ordering::SeqCst)
    }
}
