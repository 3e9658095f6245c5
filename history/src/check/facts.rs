//! What answers tell of revisions that nobody has claimed: which key they have
//! written, and sometimes what. They leave little to search for.

use std::collections::BTreeMap;

use crate::{
    model::Change,
    operation::{Answer, Call, Do, Entry, History, Operation, Outcome, StepResult},
    watching::{Told, WatchLog},
};

/// By revision.
#[derive(Debug, Default)]
pub(super) struct Facts<'h> {
    written: BTreeMap<u64, Vec<Fact<'h>>>,
}

/// A revision has written this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fact<'h> {
    key: &'h str,
    /// `None`: nobody was told what.
    value: Option<&'h str>,
}

impl<'h> Facts<'h> {
    /// All that clients and watchers were told.
    pub(super) fn of(history: &'h History, logs: &'h [WatchLog]) -> Self {
        let mut this = Self::default();
        for operation in &history.operations {
            if let Outcome::Done(answer) = &operation.outcome {
                this.learn(operation, answer);
            }
        }
        let messages = logs.iter().flat_map(|log| &log.segments);
        for message in messages.flat_map(|segment| &segment.messages) {
            for told in &message.changes {
                this.hear(told);
            }
        }
        this
    }

    /// The last revision that is told of.
    pub(super) fn last(&self) -> u64 {
        self.written
            .last_key_value()
            .map_or(0, |(revision, _)| *revision)
    }

    /// Whether what a revision changed can be this.
    pub(super) fn allow(&self, revision: u64, changes: &[Change]) -> bool {
        let facts = self.written.get(&revision).map_or(&[][..], Vec::as_slice);
        facts.iter().all(|fact| {
            let mut written = changes.iter().filter(|change| change.key == fact.key);
            written.any(|change| {
                let after = change.after.as_ref();
                after.is_some_and(|held| {
                    fact.value
                        .is_none_or(|value| held.is_lock || held.value == value)
                })
            })
        })
    }

    /// Whether a revision is known to have written something.
    pub(super) fn are_told(&self, revision: u64) -> bool {
        self.written.contains_key(&revision)
    }

    fn learn(&mut self, operation: &'h Operation, answer: &'h Answer) {
        match (answer, &operation.call) {
            (Answer::Found { entry, .. }, _) => self.see(entry),
            (Answer::Listed { entries, .. }, _) => {
                for entry in entries {
                    self.see(entry);
                }
            }
            (
                Answer::Written {
                    previous_revision, ..
                },
                Call::Put { key, .. },
            )
            | (
                Answer::Deleted {
                    previous_revision, ..
                },
                Call::Delete { key, .. },
            ) => self.note(*previous_revision, key, None),
            (
                Answer::Transacted {
                    succeeded, results, ..
                },
                Call::Transact {
                    then, otherwise, ..
                },
            ) => {
                let steps = if *succeeded { then } else { otherwise };
                for (step, result) in steps.iter().zip(results) {
                    match result {
                        StepResult::Got(Some(entry)) => self.see(entry),
                        StepResult::Changed(before) if step.what != Do::Get => {
                            self.note(*before, &step.key, None);
                        }
                        StepResult::Got(None) | StepResult::Changed(_) => {}
                    }
                }
            }
            (
                Answer::Locked {
                    fencing_revision, ..
                },
                Call::Lock { key, .. },
            ) => self.note(*fencing_revision, key, None),
            _ => {}
        }
    }

    fn hear(&mut self, told: &'h Told) {
        for entry in [&told.entry, &told.previous].into_iter().flatten() {
            self.see(entry);
        }
        if let Some(before) = told.previous_revision {
            self.note(before, &told.key, None);
        }
    }

    fn see(&mut self, entry: &'h Entry) {
        self.note(entry.revision, &entry.key, entry.value.as_deref());
        self.note(entry.created_revision, &entry.key, None);
    }

    fn note(&mut self, revision: u64, key: &'h str, value: Option<&'h str>) {
        if revision == 0 {
            return;
        }
        let facts = self.written.entry(revision).or_default();
        let fact = Fact { key, value };
        if !facts.contains(&fact) {
            facts.push(fact);
        }
    }
}
