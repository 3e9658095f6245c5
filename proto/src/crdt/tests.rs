//! Laws of merging, over histories of replicas that write and hear of each other.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::{Actor, Dot, HybridClock, HybridTime, Siblings, VectorClock, Version};
use crate::ids::MachineId;

fn actor(number: u128) -> Actor {
    Actor {
        machine: MachineId::from_uuid(Uuid::from_u128(number)),
        incarnation: 1,
    }
}

/// What happens at one of a few replicas of one key.
#[derive(Debug, Clone)]
enum Step {
    /// It is written, or deleted, while the wall clock shows this.
    Write { at: usize, deletes: bool, wall: u64 },
    /// One hears of all that another has.
    Hear { at: usize, from: usize },
}

const REPLICAS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..REPLICAS, any::<bool>(), 0..4_u64)
        .prop_map(|(at, deletes, wall)| Step::Write { at, deletes, wall });
    let hear = (0..REPLICAS, 0..REPLICAS).prop_map(|(at, from)| Step::Hear { at, from });
    proptest::collection::vec(prop_oneof![write, hear], 1..16)
}

/// A world of replicas, and every version that was ever written.
#[derive(Default)]
struct World {
    replicas: [Siblings<Option<u64>>; REPLICAS],
    counters: [u64; REPLICAS],
    clocks: [HybridClock; REPLICAS],
    written: Vec<Version<Option<u64>>>,
}

impl World {
    fn of(steps: &[Step]) -> Self {
        let mut world = Self::default();
        for step in steps {
            world.take(step);
        }
        world
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { at, deletes, wall } => {
                self.counters[at] += 1;
                let dot = Dot {
                    actor: actor(at as u128),
                    counter: self.counters[at],
                };
                let time = self.clocks[at].tick(wall);
                let value = (!deletes).then_some(self.written.len() as u64);
                self.replicas[at].write(dot, time, value);
                self.written.push(self.replicas[at].versions()[0].clone());
            }
            Step::Hear { at, from } => {
                let told = self.replicas[from].clone();
                for version in told.versions() {
                    self.clocks[at].hear(version.time, 0);
                }
                self.replicas[at].merge(told);
            }
        }
    }
}

fn merged(parts: &[&Siblings<Option<u64>>]) -> Siblings<Option<u64>> {
    let mut all = Siblings::default();
    for part in parts {
        all.merge((*part).clone());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(steps in steps()) {
        let world = World::of(&steps);
        let [a, b, c] = &world.replicas;
        prop_assert_eq!(merged(&[a, b]), merged(&[b, a]));
        let all = merged(&[a, b, c]);
        for order in [[a, c, b], [b, a, c], [b, c, a], [c, a, b], [c, b, a]] {
            prop_assert_eq!(&merged(&order), &all);
        }
        prop_assert_eq!(merged(&[a, &merged(&[b, c])]), merged(&[&merged(&[a, b]), c]));
        prop_assert_eq!(&merged(&[&all, a, &all, b, c, &all]), &all);
    }

    #[test]
    fn what_is_heard_of_in_any_order_and_repeatedly_comes_to_the_same(
        steps in steps(),
        order in any::<proptest::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let world = World::of(&steps);
        let all = merged(&[&world.replicas[0], &world.replicas[1], &world.replicas[2]]);
        let mut told = world.written.clone();
        if !told.is_empty() {
            let cut = order.index(told.len());
            told.rotate_left(cut);
            told[cut.min(1)..].reverse();
        }
        if twice {
            told.extend(told.clone());
        }
        let heard: Siblings<Option<u64>> = told.into_iter().collect();
        prop_assert_eq!(heard, all);
    }

    #[test]
    fn no_value_is_gone_but_one_that_a_later_write_has_seen(steps in steps()) {
        let world = World::of(&steps);
        let all = merged(&[&world.replicas[0], &world.replicas[1], &world.replicas[2]]);
        for version in &world.written {
            let is_there = all.versions().contains(version);
            let is_replaced = world.written.iter().any(|other| other.replaces(version));
            prop_assert!(is_there != is_replaced, "{:?}", version);
        }
    }

    #[test]
    fn siblings_have_not_seen_each_other_and_the_next_write_has_seen_all(steps in steps()) {
        let world = World::of(&steps);
        let mut all = merged(&[&world.replicas[0], &world.replicas[1], &world.replicas[2]]);
        for one in all.versions() {
            for other in all.versions() {
                prop_assert!(!one.replaces(other));
            }
        }
        let before = all.clone();
        all.write(Dot { actor: actor(9), counter: 1 }, HybridTime::default(), Some(0));
        prop_assert_eq!(merged(&[&before, &all]), all.clone());
        prop_assert_eq!(all.versions().len(), 1);
    }

    #[test]
    fn a_value_wins_over_every_tombstone_and_the_latest_over_the_others(steps in steps()) {
        let world = World::of(&steps);
        let all = merged(&[&world.replicas[0], &world.replicas[1], &world.replicas[2]]);
        let Some(winner) = all.winner() else {
            prop_assert!(all.is_empty());
            return Ok(());
        };
        prop_assert_eq!(winner.is_tombstone(), all.values() == 0);
        for other in all.versions().iter().filter(|other| other.is_tombstone() == winner.is_tombstone()) {
            prop_assert!((winner.time, winner.dot) >= (other.time, other.dot));
        }
    }

    #[test]
    fn a_clock_knows_what_it_has_seen(seen in proptest::collection::vec((0..4_u128, 1..9_u64), 0..12)) {
        let mut clock = VectorClock::default();
        let mut most: BTreeMap<Actor, u64> = BTreeMap::new();
        for (number, counter) in seen {
            let dot = Dot { actor: actor(number), counter };
            let before = clock.clone();
            clock.see(dot);
            prop_assert!(before <= clock);
            let known = most.entry(dot.actor).or_default();
            *known = counter.max(*known);
        }
        prop_assert_eq!(clock.iter().collect::<BTreeMap<_, _>>(), most);
        let text = serde_json::to_string(&clock).unwrap();
        prop_assert_eq!(serde_json::from_str::<VectorClock>(&text).unwrap(), clock);
    }

    #[test]
    fn moments_grow_whatever_the_wall_clock_does(walls in proptest::collection::vec(0..1_u64 << 47, 1..20), heard in any::<u32>()) {
        let mut clock = HybridClock::default();
        let mut last = HybridTime::default();
        for wall in walls {
            let moment = HybridTime::new(wall.saturating_add(heard.into()), 7);
            let followed = clock.hear(moment, wall);
            prop_assert_eq!(followed, u64::from(heard) <= HybridClock::MAX_AHEAD_MILLIS);
            let now = clock.tick(wall);
            prop_assert!(now > last && (!followed || now > moment) && now.millis() >= wall);
            last = now;
        }
    }
}

/// Of each law; the environment asks for millions.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(20_000)
}
