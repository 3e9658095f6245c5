//! What calls write, key by key.

use crate::operation::{Act, Answer, Call, Do, Entry, Operation, Step, StepResult};

/// What is written into a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write<'h> {
    Value(&'h str),
    Lock,
    Gone,
}

impl Write<'_> {
    /// Whether an entry shows it; a value that was not told may be any.
    pub(super) fn is_shown(self, entry: &Entry) -> bool {
        match self {
            Self::Value(value) => {
                !entry.is_lock && entry.value.as_ref().is_none_or(|told| told == value)
            }
            Self::Lock => entry.is_lock,
            Self::Gone => false,
        }
    }
}

/// What an acknowledged call has written.
pub(super) fn writes(operation: &Operation) -> Vec<(&str, Write<'_>)> {
    match (&operation.call, operation.answer()) {
        (
            Call::Transact {
                then, otherwise, ..
            },
            Some(Answer::Transacted {
                succeeded, results, ..
            }),
        ) => {
            let steps = if *succeeded { then } else { otherwise };
            let done = steps.iter().zip(results);
            let done = done.filter(|(step, result)| {
                step.what != Do::Delete || **result != StepResult::Changed(0)
            });
            done.filter_map(|(step, _)| step_write(step)).collect()
        }
        (Call::Transact { .. }, _) => Vec::new(),
        _ => possible_writes(operation),
    }
}

/// What a call would write, whatever came of it.
pub(super) fn possible_writes(operation: &Operation) -> Vec<(&str, Write<'_>)> {
    match &operation.call {
        Call::Put { key, value, .. } => vec![(key, Write::Value(value))],
        Call::Delete { key, .. } => vec![(key, Write::Gone)],
        Call::Lock { key, act, .. } => vec![match act {
            Act::Acquire | Act::Renew => (key, Write::Lock),
            Act::Release => (key, Write::Gone),
        }],
        Call::Transact {
            then, otherwise, ..
        } => then
            .iter()
            .chain(otherwise)
            .filter_map(step_write)
            .collect(),
        Call::Get { .. } | Call::List { .. } => Vec::new(),
    }
}

fn step_write(step: &Step) -> Option<(&str, Write<'_>)> {
    let write = match &step.what {
        Do::Put(value) => Write::Value(value),
        Do::Delete => Write::Gone,
        Do::Get => return None,
    };
    Some((&step.key, write))
}
