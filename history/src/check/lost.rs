//! Every acknowledged write, against what is there in the end.

use std::collections::BTreeMap;

use super::{
    Rule, Violation,
    written::{Write, writes},
};
use crate::operation::{Call, Do, Entry, History, Operation, Outcome, Position};

/// Whether every acknowledged write is still on a board, or was written over
/// or ended since by something that can have done so. Says less than
/// [`super::linearizable`] with a last list, but says it of one key at a time.
///
/// # Errors
/// The write that is lost.
pub fn nothing_lost(
    history: &History,
    entries: &[Entry],
    position: Position,
) -> Result<(), Violation> {
    let there: BTreeMap<&str, &Entry> = entries
        .iter()
        .map(|entry| (entry.key.as_str(), entry))
        .collect();
    for (key, (revision, write, operation)) in last_writes(history) {
        let lost = |text: String| Err(Violation::new(Rule::Lost, text).with([operation]));
        if revision > position.revision {
            return lost(format!("the board is at {position}, before this write"));
        }
        match (there.get(key), write) {
            (Some(entry), _) if entry.revision < revision => {
                return lost(format!("there is an older one: {entry}"));
            }
            (Some(entry), Write::Value(value))
                if entry.revision == revision
                    && entry.value.as_ref().is_some_and(|there| there != value) =>
            {
                return lost(format!("there is another: {entry}"));
            }
            (Some(entry), Write::Gone) if entry.revision == revision => {
                return lost(format!("it is there still: {entry}"));
            }
            (None, Write::Value(_) | Write::Lock) if !can_be_gone(history, key) => {
                return lost("it is not there, and nobody has asked for its end".to_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of each key, the last acknowledged one.
fn last_writes(history: &History) -> BTreeMap<&str, (u64, Write<'_>, &Operation)> {
    let mut last: BTreeMap<&str, (u64, Write<'_>, &Operation)> = BTreeMap::new();
    for operation in &history.operations {
        let Some(revision) = operation.made_revision() else {
            continue;
        };
        for (key, write) in writes(operation) {
            if last.get(key).is_none_or(|(newest, ..)| *newest < revision) {
                last.insert(key, (revision, write, operation));
            }
        }
    }
    last
}

/// Whether a call of unknown outcome may have ended it, or its time.
fn can_be_gone(history: &History, key: &str) -> bool {
    history.operations.iter().any(|operation| {
        let is_unknown = operation.outcome == Outcome::Unknown;
        match &operation.call {
            Call::Put {
                key: written, ttl, ..
            } => written == key && ttl.is_some(),
            Call::Lock { key: lock, .. } => lock == key,
            Call::Delete { key: deleted, .. } => is_unknown && deleted == key,
            Call::Transact {
                then, otherwise, ..
            } => {
                let mut steps = then.iter().chain(otherwise);
                is_unknown && steps.any(|step| step.key == key && step.what == Do::Delete)
            }
            _ => false,
        }
    })
}
