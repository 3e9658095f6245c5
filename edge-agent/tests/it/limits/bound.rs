//! The bound of leased shares, with the real buckets of edges and the real
//! table of shares, on clocks that the test moves: whatever edges want, however
//! they come and go, and whatever messages are lost or late.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{
    ids::{ApiKeyId, MachineId},
    rate::{RateLimit, RateLimits, Share},
};
use control_plane::identity::rates::{LEASE, Shares, Time};
use edge_agent::{
    clock::Clock,
    limits::{Limits, Round},
};
use proptest::prelude::*;
use uuid::Uuid;

const EDGES: usize = 6;
const STEP: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> time::OffsetDateTime {
        time::OffsetDateTime::UNIX_EPOCH + self.since_boot()
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// What one edge does for a while.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Tries so many calls in each step.
    Call(usize, u32),
    /// Does not ask, and its clients do not call.
    Sleep(usize),
    /// Its process is killed and started again.
    Restart(usize),
    /// Its questions do not arrive.
    Deaf(usize),
    /// Answers do not arrive.
    Unheard(usize),
    /// Both arrive again.
    Heal(usize),
    /// The database loses the table of shares.
    LoseTable,
    /// So many steps pass.
    Pass(u32),
}

#[derive(Default)]
struct SimulatedEdge {
    calls: u32,
    asleep: bool,
    deaf: bool,
    unheard: bool,
    limits: Option<Arc<Limits>>,
    /// A round and its answer, on its way.
    coming: Option<(Round, Option<Vec<Option<Share>>>)>,
}

struct Simulation {
    clock: Arc<TestClock>,
    limit: RateLimit,
    of_key: Arc<RateLimits>,
    table: Option<Shares>,
    whole_us: i64,
    edges: Vec<SimulatedEdge>,
    /// Calls that passed, by step.
    passed: Vec<u64>,
    /// How many edges were cut off, by step: each lets a trickle through, beyond
    /// the bound.
    cut_off: Vec<u32>,
    /// Whether a table was lost, after which its own bound holds.
    lost: bool,
}

impl Simulation {
    fn new(limit: RateLimit) -> Self {
        let of_key = RateLimits {
            all: Some(limit),
            tools: BTreeMap::new(),
        };
        Self {
            clock: Arc::default(),
            limit,
            of_key: Arc::new(of_key),
            table: None,
            whole_us: 0,
            edges: (0..EDGES).map(|_| SimulatedEdge::default()).collect(),
            passed: Vec::new(),
            cut_off: Vec::new(),
            lost: false,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Call(edge, calls) => {
                self.edges[edge].calls = calls;
                self.edges[edge].asleep = false;
            }
            Act::Sleep(edge) => self.edges[edge].asleep = true,
            Act::Restart(edge) => {
                let calls = self.edges[edge].calls;
                self.edges[edge] = SimulatedEdge {
                    calls,
                    ..SimulatedEdge::default()
                };
            }
            Act::Deaf(edge) => self.edges[edge].deaf = true,
            Act::Unheard(edge) => self.edges[edge].unheard = true,
            Act::Heal(edge) => {
                self.edges[edge].deaf = false;
                self.edges[edge].unheard = false;
            }
            Act::LoseTable => {
                self.table = None;
                self.whole_us = self.now_us() + i64::try_from(LEASE.as_micros()).unwrap();
                self.lost = true;
            }
            Act::Pass(steps) => {
                for _ in 0..steps {
                    self.step();
                }
            }
        }
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.clock.since_boot().as_micros()).unwrap()
    }

    fn step(&mut self) {
        self.clock
            .0
            .fetch_add(u64::try_from(STEP.as_millis()).unwrap(), Ordering::Relaxed);
        let (mut passed, mut cut_off) = (0, 0);
        for number in 0..EDGES {
            if self.edges[number].asleep {
                continue;
            }
            cut_off += u32::from(self.edges[number].deaf || self.edges[number].unheard);
            passed += self.call(number);
            self.ask(number);
        }
        self.passed.push(passed);
        self.cut_off.push(cut_off);
    }

    fn call(&mut self, number: usize) -> u64 {
        let clock = self.clock.clone();
        let edge = &mut self.edges[number];
        if edge.calls == 0 && edge.limits.is_none() {
            return 0;
        }
        let limits = edge.limits.get_or_insert_with(|| Limits::new(clock));
        let tries = 0..edge.calls;
        let passed = tries.filter(|_| limits.check_now(key(), &self.of_key, None).is_ok());
        passed.count() as u64
    }

    /// A question is answered at once, and its answer heard a step later.
    fn ask(&mut self, number: usize) {
        let time = Time {
            now_us: self.now_us(),
            whole_us: self.whole_us,
        };
        let edge = &mut self.edges[number];
        let Some(limits) = edge.limits.clone() else {
            return;
        };
        if let Some((round, answer)) = edge.coming.take() {
            match answer {
                Some(shares) => limits.take(&round, &shares),
                None => limits.put_off(&round),
            }
        }
        let Ok(round) = limits.round_now() else {
            return;
        };
        if edge.deaf {
            edge.coming = Some((round, None));
            return;
        }
        let table = self
            .table
            .get_or_insert_with(|| Shares::new(self.limit, time));
        let shares = round
            .uses()
            .iter()
            .map(|(_, told)| Some(table.renew(self.limit, time, machine(number), *told)))
            .collect();
        edge.coming = Some((round, (!edge.unheard).then_some(shares)));
    }

    /// The most that any span let through above `rate` times its length, and
    /// above the one call a second of each edge that was cut off.
    fn excess(&self, rate: f64) -> f64 {
        let step = STEP.as_secs_f64();
        let (mut running, mut most) = (0.0_f64, 0.0_f64);
        for (passed, cut_off) in self.passed.iter().zip(&self.cut_off) {
            let allowed = (rate + f64::from(*cut_off)) * step;
            // Kadane: the span that ends here, if it is worth going on
            running = running.max(0.0) + f64::from(u32::try_from(*passed).unwrap()) - allowed;
            most = most.max(running);
        }
        // the first step's own length counts as well
        most + rate * step
    }
}

fn key() -> ApiKeyId {
    ApiKeyId::from_uuid(Uuid::from_u128(1))
}

fn machine(number: usize) -> MachineId {
    MachineId::from_uuid(Uuid::from_u128(number as u128 + 1))
}

fn act() -> impl Strategy<Value = Act> {
    let edge = 0..EDGES;
    prop_oneof![
        6 => (edge.clone(), 0_u32..20).prop_map(|(edge, calls)| Act::Call(edge, calls)),
        2 => edge.clone().prop_map(Act::Sleep),
        2 => edge.clone().prop_map(Act::Restart),
        1 => edge.clone().prop_map(Act::Deaf),
        1 => edge.clone().prop_map(Act::Unheard),
        3 => edge.prop_map(Act::Heal),
        8 => (1_u32..150).prop_map(Act::Pass),
    ]
}

fn limit() -> impl Strategy<Value = RateLimit> {
    (1_u32..300, 1_u32..600).prop_map(|(rate, burst)| RateLimit::new(rate, burst).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn all_edges_together_stay_within_the_bound_whatever_happens(
        limit in limit(),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut simulation = Simulation::new(limit);
        for act in acts {
            simulation.act(act);
        }
        let (rate, burst) = (f64::from(limit.per_second), f64::from(limit.burst));
        let stock = 1.1 * burst + f64::from(u32::try_from(EDGES).unwrap()) + 1.0;
        let excess = simulation.excess(1.1 * rate);
        prop_assert!(excess <= stock + 1.1 * rate * STEP.as_secs_f64() + 1e-6, "{excess} > {stock}");
    }

    #[test]
    fn a_lost_table_adds_no_more_than_one_burst_and_what_newcomers_get(
        limit in limit(),
        before in prop::collection::vec(act(), 1..40),
        after in prop::collection::vec(act(), 1..40),
    ) {
        let mut simulation = Simulation::new(limit);
        for act in before.into_iter().chain([Act::LoseTable]).chain(after) {
            simulation.act(act);
        }
        let (rate, burst) = (f64::from(limit.per_second), f64::from(limit.burst));
        // a limit that is asked for again only when the lost leases have ended begins whole
        let stock = 2.2 * burst + 2.0 * f64::from(u32::try_from(EDGES).unwrap()) + 2.0;
        // what was unheard of the lost table and what the new one gives, for one lease
        let meanwhile = 0.2 * rate * LEASE.as_secs_f64();
        let excess = simulation.excess(1.1 * rate);
        prop_assert!(
            excess <= stock + meanwhile + 1.1 * rate * STEP.as_secs_f64() + 1e-6,
            "{excess} > {stock} + {meanwhile}"
        );
    }
}

#[test]
fn edges_that_stay_get_the_whole_limit_together_and_no_more() {
    let limit = RateLimit::new(100, 200).unwrap();
    let mut simulation = Simulation::new(limit);
    for edge in 0..3 {
        simulation.act(Act::Call(edge, 5));
    }
    simulation.act(Act::Pass(500));
    simulation.passed.clear();
    simulation.act(Act::Pass(1000));
    let passed: u64 = simulation.passed.iter().sum();
    assert!((1950..=2000 + 3).contains(&passed), "{passed} in 20 s");
}

#[test]
fn an_edge_alone_has_all_of_the_limit_also_after_the_others_have_left() {
    let limit = RateLimit::new(100, 200).unwrap();
    let mut simulation = Simulation::new(limit);
    simulation.act(Act::Call(0, 5));
    simulation.act(Act::Pass(50));
    let first: u64 = simulation.passed.iter().sum();
    assert!((240..=300).contains(&first), "{first} in the first second");
    simulation.act(Act::Call(1, 5));
    simulation.act(Act::Pass(500));
    simulation.act(Act::Sleep(1));
    simulation.act(Act::Pass(500));
    simulation.passed.clear();
    simulation.act(Act::Pass(500));
    let passed: u64 = simulation.passed.iter().sum();
    assert!((975..=1001).contains(&passed), "{passed} in 10 s");
}
