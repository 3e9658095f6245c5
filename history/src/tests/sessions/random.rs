//! Random histories of a session board that behaves always pass; of one with a
//! fault they often do not, and with one answer changed they never do.

use proptest::prelude::*;

use super::{board::FAULTS, world};
use crate::{
    Answer, History, Outcome, Refusal,
    check::{self, Rule},
    tests::world::{Dice, position_of},
};

const CALLS: usize = 200;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_board_that_behaves_is_never_refuted(seed: u64) {
        let history = world::of(seed, CALLS, None);
        if let Err(violation) = check::sessions(&history) {
            prop_assert!(false, "{violation}");
        }
    }

    #[test]
    fn an_answer_with_a_value_of_nobody_is_refuted(seed: u64) {
        let mut history = world::of(seed, CALLS, None);
        let changed = change_one(&mut history, seed, |answer| match answer {
            Answer::Found { entry, .. } => {
                entry.value = Some("planted".to_owned());
                true
            }
            Answer::Listed { entries, .. } => entries.first_mut().is_some_and(|entry| {
                entry.value = Some("planted".to_owned());
                true
            }),
            _ => false,
        });
        prop_assert!(!changed || check::sessions(&history).is_err());
    }

    #[test]
    fn a_write_at_the_position_of_another_is_refuted(seed: u64) {
        let mut history = world::of(seed, CALLS, None);
        let first = history.operations.iter().find(|call| call.made_revision().is_some());
        let Some(first) = first.and_then(|call| call.answer()).map(Answer::position) else {
            return Ok(());
        };
        let changed = change_one(&mut history, seed, |answer| {
            let is_other = matches!(answer, Answer::Written { position, .. } if *position != first);
            if is_other {
                *position_of(answer) = first;
            }
            is_other
        });
        prop_assert!(!changed || check::sessions(&history).is_err());
    }
}

fn change_one(history: &mut History, seed: u64, change: impl Fn(&mut Answer) -> bool) -> bool {
    let operations = &mut history.operations;
    let count = operations.len();
    let first = usize::try_from(Dice::new(seed).below(count as u64)).unwrap();
    (0..count).any(
        |offset| match &mut operations[(first + offset) % count].outcome {
            Outcome::Done(answer) => change(answer),
            _ => false,
        },
    )
}

#[test]
fn boards_with_a_fault_are_refuted() {
    for fault in FAULTS {
        let caught: Vec<Rule> = (0..100)
            .filter_map(|seed| check::sessions(&world::of(seed, CALLS, Some(fault))).err())
            .map(|violation| violation.rule)
            .collect();
        println!("{fault:?}: {} of 100", caught.len());
        assert!(caught.len() >= 60, "{fault:?}: {caught:?}");
    }
}

#[test]
fn random_worlds_have_everything_in_them() {
    let worlds: Vec<History> = (0..20).map(|seed| world::of(seed, CALLS, None)).collect();
    let operations = || worlds.iter().flat_map(|history| &history.operations);
    let answers = || operations().filter_map(|call| call.answer());
    assert!(operations().any(|call| call.outcome == Outcome::Unknown));
    assert!(operations().any(|call| call.outcome == Outcome::Refused(Refusal::Conflict)));
    assert!(operations().any(|call| call.outcome == Outcome::Refused(Refusal::NotFound)));
    assert!(answers().any(|answer| matches!(answer, Answer::Absent { .. })));
    assert!(answers().any(|answer| matches!(answer, Answer::Deleted { deleted: false, .. })));
    assert!(answers().any(|answer| answer.position().epoch > 2));
    let reports = worlds
        .iter()
        .map(|history| check::sessions(history).unwrap());
    assert!(reports.map(|report| report.unknown_shown).sum::<usize>() > 20);
}
