//! What replicas that merge as they should come to always passes; with a fault
//! it often does not, and with one thing changed it never does.

use proptest::prelude::*;

use super::{replicas::FAULTS, world};
use crate::{
    check::{self, Rule},
    eventual::{Fate, Merged},
    tests::world::Dice,
};

const MOVES: usize = 80;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn replicas_that_merge_as_they_should_are_never_refuted(seed: u64) {
        for merged in [world::of(seed, MOVES, None), world::calm(seed, MOVES, None)] {
            if let Err(violation) = check::convergence(&merged) {
                prop_assert!(false, "{violation}");
            }
        }
    }

    #[test]
    fn a_version_that_one_replica_lacks_is_refuted(seed: u64) {
        let mut merged = world::of(seed, MOVES, None);
        let Some((replica, key)) = somewhere(&merged, seed) else {
            return Ok(());
        };
        let siblings = merged.replicas[replica].keys.get_mut(&key).unwrap();
        let version = siblings.versions.pop().unwrap();
        // others may have forgotten it
        prop_assume!(!merged.collected.contains(&version.dot));
        prop_assert!(check::convergence(&merged).is_err());
    }

    #[test]
    fn a_value_that_nobody_wrote_is_refuted(seed: u64) {
        let mut merged = world::of(seed, MOVES, None);
        let Some((_, key)) = somewhere(&merged, seed) else {
            return Ok(());
        };
        for replica in &mut merged.replicas {
            let siblings = replica.keys.get_mut(&key).unwrap();
            for version in &mut siblings.versions {
                version.value = Some("planted".to_owned());
            }
            siblings.winner = Some("planted".to_owned());
        }
        prop_assert!(check::convergence(&merged).is_err());
    }

    #[test]
    fn an_acknowledged_write_that_is_nowhere_is_refuted(seed: u64) {
        let mut merged = world::calm(seed, MOVES, None);
        let there = merged.replicas[0].keys.clone();
        let is_there = |dot| there.values().flat_map(|one| &one.versions).any(|one| one.dot == dot);
        let told = merged.writes.iter().find(|write| {
            let dot = write.dot().filter(|_| write.value.is_some() && !write.may_end);
            write.fate == Fate::Acknowledged && dot.is_some_and(|dot| is_there(dot.clone()))
        });
        let Some(dot) = told.and_then(|write| write.dot()).cloned() else {
            return Ok(());
        };
        for siblings in merged.replicas.iter_mut().flat_map(|replica| replica.keys.values_mut()) {
            siblings.versions.retain(|version| version.dot != dot);
            let values = siblings.versions.iter().filter(|version| version.value.is_some());
            let winner = values.max_by_key(|version| (version.time, &version.dot));
            siblings.winner = winner.and_then(|version| version.value.clone());
        }
        let violation = check::convergence(&merged).unwrap_err();
        prop_assert_eq!(violation.rule, Rule::Lost);
    }
}

/// A replica that has something in a key.
fn somewhere(merged: &Merged, seed: u64) -> Option<(usize, String)> {
    let replica = usize::try_from(Dice::new(seed).below(3)).unwrap();
    let mut keys = merged.replicas[replica].keys.iter();
    let (key, _) = keys.find(|(_, siblings)| !siblings.versions.is_empty())?;
    Some((replica, key.clone()))
}

#[test]
fn replicas_with_a_fault_are_refuted() {
    for fault in FAULTS {
        let caught: Vec<Rule> = (0..100)
            .filter_map(|seed| check::convergence(&world::calm(seed, MOVES, Some(fault))).err())
            .map(|violation| violation.rule)
            .collect();
        println!("{fault:?}: {} of 100", caught.len());
        assert!(caught.len() >= 30, "{fault:?}: {caught:?}");
    }
}

#[test]
fn random_worlds_have_everything_in_them() {
    let worlds: Vec<Merged> = (0..50).map(|seed| world::of(seed, MOVES, None)).collect();
    assert!(worlds.iter().any(|merged| !merged.collected.is_empty()));
    let mut sum = check::ConvergenceReport::default();
    for merged in &worlds {
        let report = check::convergence(merged).unwrap();
        sum.with_siblings += report.with_siblings;
        sum.deleted += report.deleted;
        sum.present += report.present;
        sum.replaced += report.replaced;
        sum.ended += report.ended;
        sum.unproven += report.unproven;
        sum.refused += report.refused;
        sum.unknown += report.unknown;
    }
    let all = [
        sum.with_siblings,
        sum.deleted,
        sum.present,
        sum.replaced,
        sum.ended,
        sum.unproven,
        sum.refused,
        sum.unknown,
    ];
    assert!(all.iter().all(|count| *count > 10), "{sum}");
}
