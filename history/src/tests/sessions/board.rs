//! Who orders the writes of a session board, and what a quorum has of them.

use std::collections::BTreeMap;

use crate::{Answer, Call, Entry, Outcome, Position, Refusal};

/// What is wrong with a board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Edges answer wherever their replica stands.
    ForgetsMarks,
    /// As before, and say that they are up to date.
    ClaimsToBeNew,
    /// A failover takes back what was acknowledged.
    LosesAcknowledged,
    /// The old primary goes on acknowledging for a while.
    TwoPrimaries,
    /// What is told to have been refused is done.
    DoesWhatItRefuses,
    /// Now and then a replica misses a change.
    MissesChanges,
    /// Replicas tell of what a failover may undo.
    TellsTooEarly,
    /// What nobody was told the outcome of is done again.
    DoesTwice,
}

pub(super) const FAULTS: [Fault; 8] = [
    Fault::ForgetsMarks,
    Fault::ClaimsToBeNew,
    Fault::LosesAcknowledged,
    Fault::TwoPrimaries,
    Fault::DoesWhatItRefuses,
    Fault::MissesChanges,
    Fault::TellsTooEarly,
    Fault::DoesTwice,
];

#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) value: String,
    pub(super) revision: u64,
    pub(super) created_revision: u64,
    pub(super) ends: Option<u64>,
}

pub(super) type Keys = BTreeMap<String, Held>;

/// A change of one key, and all that is there with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    pub(super) position: Position,
    pub(super) key: String,
    pub(super) held: Option<Held>,
    pub(super) all: Keys,
}

/// What the primary has done, and the one before it.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) fault: Option<Fault>,
    pub(super) epoch: u64,
    /// Begins with the empty board.
    pub(super) log: Vec<Change>,
    /// How much of it a quorum has.
    pub(super) durable: usize,
    /// The epoch before the last failover, and its log.
    old: Option<(u64, Vec<Change>)>,
}

impl Board {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            epoch: 1,
            log: vec![Change::default()],
            durable: 1,
            old: None,
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn last(&self) -> &Change {
        self.log.last().unwrap()
    }

    /// At the old primary; whether there is one.
    pub(super) fn write_late(&mut self, call: &Call, now: u64) -> Option<Outcome> {
        let (epoch, log) = self.old.take()?;
        let newer = (
            std::mem::replace(&mut self.epoch, epoch),
            std::mem::replace(&mut self.log, log),
        );
        let outcome = self.write(call, now);
        let old = (
            std::mem::replace(&mut self.epoch, newer.0),
            std::mem::replace(&mut self.log, newer.1),
        );
        self.old = Some(old);
        Some(outcome)
    }

    pub(super) fn write(&mut self, call: &Call, now: u64) -> Outcome {
        let (key, value, if_revision, ttl) = match call {
            Call::Put {
                key,
                value,
                if_revision,
                ttl,
                ..
            } => (key, Some(value), if_revision, ttl),
            Call::Delete {
                key, if_revision, ..
            } => (key, None, if_revision, &None),
            _ => unreachable!("a write"),
        };
        let last = self.last();
        let before = last.all.get(key).cloned();
        let previous_revision = before.as_ref().map_or(0, |held| held.revision);
        let is_refused = if_revision.is_some_and(|wanted| wanted != previous_revision);
        if is_refused && !self.has(Fault::DoesWhatItRefuses) {
            return Outcome::Refused(Refusal::Conflict);
        }
        if value.is_none() && before.is_none() {
            return Outcome::Done(Answer::Deleted {
                deleted: false,
                position: last.position,
                previous_revision: 0,
            });
        }
        let revision = last.position.revision + 1;
        let held = value.map(|value| Held {
            value: value.clone(),
            revision,
            created_revision: before.map_or(revision, |held| held.created_revision),
            ends: ttl.map(|ttl| now + u64::try_from(ttl.as_micros()).unwrap()),
        });
        let is_delete = held.is_none();
        self.append(key, held);
        let position = self.last().position;
        if is_refused {
            return Outcome::Refused(Refusal::Conflict);
        }
        Outcome::Done(if is_delete {
            Answer::Deleted {
                deleted: true,
                position,
                previous_revision,
            }
        } else {
            Answer::Written {
                position,
                previous_revision,
            }
        })
    }

    fn append(&mut self, key: &str, held: Option<Held>) {
        let last = self.last();
        let (mut all, before) = (last.all.clone(), last.position);
        match &held {
            Some(held) => all.insert(key.to_owned(), held.clone()),
            None => all.remove(key),
        };
        self.log.push(Change {
            position: Position {
                epoch: self.epoch,
                revision: before.revision + 1,
            },
            key: key.to_owned(),
            held,
            all,
        });
    }

    /// Goes on behind what a quorum has, but for what is lost.
    pub(super) fn fail_over(&mut self, lost: usize) {
        self.old = Some((self.epoch, self.log.clone()));
        self.durable = self.durable.saturating_sub(lost).max(1);
        self.log.truncate(self.durable);
        self.epoch += 1;
    }

    /// What has outlived its time ends.
    pub(super) fn sweep(&mut self, now: u64) {
        let is_over = |held: &Held| held.ends.is_some_and(|ends| ends <= now);
        let old = self.last().all.iter().filter(|(_, held)| is_over(held));
        let old: Vec<String> = old.map(|(key, _)| key.clone()).collect();
        for key in old {
            self.append(&key, None);
        }
    }
}

pub(super) fn told(key: &str, held: &Held) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Some(held.value.clone()),
        revision: held.revision,
        created_revision: held.created_revision,
        writer: "a".to_owned(),
        is_lock: false,
    }
}
