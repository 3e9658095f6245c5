//! Whether what a client was told is what it should have been told.

use crate::{
    model::{Board, Change, Held},
    operation::{Answer, Call, Entry, Operation, Outcome, Refusal, StepResult},
};

/// What the call changes, if what it was told fits to the board as it is here.
pub(super) fn changes_if_told(board: &Board, operation: &Operation) -> Option<Vec<Change>> {
    if let (Call::Get { key }, Outcome::Done(Answer::Absent { position })) =
        (&operation.call, &operation.outcome)
    {
        let is_so = board.get(key).is_none() && board.revision() == position.revision;
        return is_so.then(Vec::new);
    }
    let effect = board.effect(operation, None);
    if agree(&effect.outcome, &operation.outcome) || is_lenient(board, operation) {
        return Some(effect.changes);
    }
    // a lock may be over before its end has come in the board's order
    let effect = board.effect(operation, operation.end);
    agree(&effect.outcome, &operation.outcome).then_some(effect.changes)
}

/// A delete of what is not there is told as nothing deleted, or as a revision
/// that does not fit.
fn is_lenient(board: &Board, operation: &Operation) -> bool {
    let Call::Delete {
        key,
        if_revision: Some(_),
        ..
    } = &operation.call
    else {
        return false;
    };
    let nothing = match &operation.outcome {
        Outcome::Done(Answer::Deleted { deleted, .. }) => !deleted,
        Outcome::Refused(Refusal::Conflict) => true,
        _ => false,
    };
    nothing && board.get(key).is_none()
}

fn agree(true_one: &Outcome, told: &Outcome) -> bool {
    match (true_one, told) {
        (Outcome::Done(true_one), Outcome::Done(told)) => {
            answers_agree(true_one, told)
                && true_one.position().revision == told.position().revision
        }
        _ => true_one == told,
    }
}

fn answers_agree(true_one: &Answer, told: &Answer) -> bool {
    match (true_one, told) {
        (Answer::Found { entry, .. }, Answer::Found { entry: told, .. }) => {
            entries_agree(entry, told)
        }
        (
            Answer::Written {
                previous_revision: before,
                ..
            },
            Answer::Written {
                previous_revision: told,
                ..
            },
        ) => before == told,
        (
            Answer::Deleted {
                deleted,
                previous_revision: before,
                ..
            },
            Answer::Deleted {
                deleted: told,
                previous_revision: told_before,
                ..
            },
        ) => deleted == told && before == told_before,
        (
            Answer::Listed { entries, .. },
            Answer::Listed {
                entries: told,
                more,
                ..
            },
        ) => {
            let is_whole = if *more {
                told.len() < entries.len()
            } else {
                told.len() == entries.len()
            };
            let mut pairs = entries.iter().zip(told);
            is_whole && pairs.all(|(entry, told)| entries_agree(entry, told))
        }
        (
            Answer::Transacted {
                succeeded, results, ..
            },
            Answer::Transacted {
                succeeded: told,
                results: told_results,
                ..
            },
        ) => {
            let mut pairs = results.iter().zip(told_results);
            succeeded == told
                && results.len() == told_results.len()
                && pairs.all(|(result, told)| results_agree(result, told))
        }
        (
            Answer::Locked {
                held,
                fencing_revision,
                holder,
                ..
            },
            Answer::Locked {
                held: told,
                fencing_revision: told_fencing,
                holder: told_holder,
                ..
            },
        ) => held == told && fencing_revision == told_fencing && holder == told_holder,
        _ => false,
    }
}

fn results_agree(true_one: &StepResult, told: &StepResult) -> bool {
    match (true_one, told) {
        (StepResult::Got(Some(entry)), StepResult::Got(Some(told))) => entries_agree(entry, told),
        _ => true_one == told,
    }
}

/// What was not told agrees with everything.
fn entries_agree(true_one: &Entry, told: &Entry) -> bool {
    let same_value =
        true_one.value.is_none() || told.value.is_none() || true_one.value == told.value;
    let same_writer = told.writer.is_empty() || true_one.writer == told.writer;
    same_value
        && same_writer
        && true_one.key == told.key
        && true_one.revision == told.revision
        && true_one.created_revision == told.created_revision
        && true_one.is_lock == told.is_lock
}

/// As [`entries_agree`], of what is on the board.
pub(super) fn is_told(key: &str, held: Option<&Held>, told: Option<&Entry>) -> bool {
    match (held, told) {
        (None, None) => true,
        (Some(held), Some(told)) => entries_agree(&held.told(key), told),
        _ => false,
    }
}
