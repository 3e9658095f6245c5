//! Random histories of a board that behaves always pass; with one answer
//! changed where there is but one explanation, they do not.

use proptest::prelude::*;

use super::world::{self, Dice, World, is_refused, kinds, position_of};
use crate::{
    Answer, Entry, Kind, Message, Operation, Outcome, Position,
    check::{self, Violation},
};

const CALLS: usize = 150;

fn all_checks(world: &World) -> Result<(), Violation> {
    check::linearizable(&world.history)?;
    check::watch(&world.history, &world.logs)?;
    check::locks(&world.history)?;
    let entries = world.board.entries().iter();
    let entries: Vec<Entry> = entries.map(|(key, held)| held.told(key)).collect();
    let position = Position {
        epoch: 1,
        revision: world.board.revision(),
    };
    check::nothing_lost(&world.history, &entries, position)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_board_that_behaves_is_never_refuted(seed: u64) {
        let world = world::of(seed, CALLS);
        if let Err(violation) = all_checks(&world) {
            prop_assert!(false, "{violation}");
        }
    }

    #[test]
    fn an_answer_with_another_value_is_refuted(seed: u64) {
        let mut world = world::calm(seed, CALLS);
        let changed = change_one(&mut world, seed, |operation| match &mut operation.outcome {
            Outcome::Done(Answer::Found { entry, .. }) if !entry.is_lock => {
                entry.value = Some("planted".to_owned());
                true
            }
            Outcome::Done(Answer::Listed { entries, .. }) => entries.pop().is_some(),
            _ => false,
        });
        prop_assert!(!changed || check::linearizable(&world.history).is_err());
    }

    #[test]
    fn an_answer_at_another_revision_is_refuted(seed: u64) {
        let mut world = world::calm(seed, CALLS);
        let changed = change_one(&mut world, seed, |operation| {
            let is_write = operation.made_revision().is_some();
            match &mut operation.outcome {
                Outcome::Done(answer) if is_write => {
                    position_of(answer).revision += 1;
                    true
                }
                _ => false,
            }
        });
        prop_assert!(!changed || check::linearizable(&world.history).is_err());
    }

    #[test]
    fn a_message_that_is_not_told_is_refuted(seed: u64) {
        let mut world = world::of(seed, CALLS);
        let mut dice = Dice::new(seed);
        let segments = world.logs.iter_mut().flat_map(|log| &mut log.segments);
        // behind the last one nobody can tell
        let mut segments: Vec<_> = segments.filter(|segment| segment.messages.len() > 1).collect();
        prop_assume!(!segments.is_empty());
        let index = dice.below(segments.len() as u64);
        let messages = &mut segments[usize::try_from(index).unwrap()].messages;
        let candidates = messages[..messages.len() - 1].iter();
        let Some(index) = candidates.clone().position(|message| !message.changes.is_empty()) else {
            return Ok(());
        };
        let removed: Message = messages.remove(index);
        prop_assert!(!removed.changes.is_empty());
        prop_assert!(check::watch(&world.history, &world.logs).is_err());
    }
}

fn change_one(world: &mut World, seed: u64, change: impl Fn(&mut Operation) -> bool) -> bool {
    let operations = &mut world.history.operations;
    let count = operations.len();
    let first = usize::try_from(Dice::new(seed).below(count as u64)).unwrap();
    (0..count).any(|offset| change(&mut operations[(first + offset) % count]))
}

#[test]
fn random_worlds_have_everything_in_them() {
    let worlds: Vec<World> = (0..20).map(|seed| world::of(seed, CALLS)).collect();
    let operations = || worlds.iter().flat_map(|world| &world.history.operations);
    assert!(operations().any(is_refused));
    assert!(operations().any(|operation| operation.outcome == Outcome::Unknown));
    for kind in [Kind::Put, Kind::Delete, Kind::Expire] {
        assert!(worlds.iter().any(|world| kinds(world).contains(&kind)));
    }
    let held = |operation: &Operation| {
        matches!(operation.answer(), Some(Answer::Locked { held: true, .. }))
    };
    assert!(operations().any(held));
}
