//! The board as it has to behave, one call at a time.

mod locks;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    time::Duration,
};

use crate::{
    operation::{
        Act, Answer, Call, Compare, Condition, Do, Entry, LockHeld, Operation, Outcome, Position,
        Refusal, Step, StepResult,
    },
    watching::Kind,
};

/// What is on a board.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board {
    revision: u64,
    entries: BTreeMap<String, Held>,
    fingerprint: u128,
}

/// What is in a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    /// Empty for a lock.
    pub(crate) value: String,
    pub(crate) revision: u64,
    pub(crate) created_revision: u64,
    /// The agent; a lock's holder.
    pub(crate) writer: String,
    pub(crate) is_lock: bool,
    /// It may end by itself from then on; `None`: never.
    pub(crate) ends: Option<Duration>,
}

/// What happens to one key in one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    pub(crate) before: Option<Held>,
    pub(crate) after: Option<Held>,
}

/// What a call comes to: what is told, and what changes.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) outcome: Outcome,
    pub(crate) changes: Vec<Change>,
}

impl Board {
    /// With what a client has read of it.
    pub(crate) fn beginning(revision: u64, entries: &[Entry]) -> Self {
        let mut this = Self {
            revision,
            ..Self::default()
        };
        for entry in entries {
            let held = Held {
                value: entry.value.clone().unwrap_or_default(),
                revision: entry.revision,
                created_revision: entry.created_revision,
                writer: entry.writer.clone(),
                is_lock: entry.is_lock,
                ends: None,
            };
            this.set(&entry.key, None, Some(&held));
        }
        this
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Held> {
        self.entries.get(key)
    }

    pub(crate) fn entries(&self) -> &BTreeMap<String, Held> {
        &self.entries
    }

    /// The same for the same content, and hardly for another.
    pub(crate) fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Makes the next revision.
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        self.revision += 1;
        for change in changes {
            self.set(&change.key, change.before.as_ref(), change.after.as_ref());
        }
    }

    /// Takes the newest revision back.
    pub(crate) fn undo(&mut self, changes: &[Change]) {
        self.revision -= 1;
        for change in changes.iter().rev() {
            self.set(&change.key, change.after.as_ref(), change.before.as_ref());
        }
    }

    fn set(&mut self, key: &str, from: Option<&Held>, to: Option<&Held>) {
        if let Some(held) = from {
            self.entries.remove(key);
            self.fingerprint = self.fingerprint.wrapping_sub(fingerprint(key, held));
        }
        if let Some(held) = to {
            self.fingerprint = self.fingerprint.wrapping_add(fingerprint(key, held));
            self.entries.insert(key.to_owned(), held.clone());
        }
    }

    /// These keys end by themselves, in one revision.
    pub(crate) fn expire<'k>(&self, keys: impl IntoIterator<Item = &'k str>) -> Vec<Change> {
        let change = |key: &str| Change {
            kind: Kind::Expire,
            key: key.to_owned(),
            before: self.get(key).cloned(),
            after: None,
        };
        keys.into_iter().map(change).collect()
    }

    /// What a call comes to here, as a caller would be told. `over`: locks that
    /// have outlived their time by then count as held by nobody, although their
    /// end has not come in the board's order.
    pub(crate) fn effect(&self, operation: &Operation, over: Option<Duration>) -> Effect {
        let agent = &operation.agent;
        match &operation.call {
            Call::Get { key } => self.read(key),
            Call::List { prefix, after } => self.list(prefix, after.as_deref()),
            Call::Put {
                key,
                value,
                if_revision,
                if_lock,
                ttl,
            } => {
                let fits = if_revision.is_none_or(|wanted| self.revision_of(key) == wanted)
                    && self.fits_lock(if_lock.as_ref(), agent, over);
                let ends = ttl.map(|ttl| operation.start + ttl);
                self.put(key, value, agent, fits, ends)
            }
            Call::Delete {
                key,
                if_revision,
                if_lock,
            } => {
                let fits = if_revision.is_none_or(|wanted| self.revision_of(key) == wanted)
                    && self.fits_lock(if_lock.as_ref(), agent, over);
                self.delete(key, fits)
            }
            Call::Transact {
                compare,
                then,
                otherwise,
            } => self.transact(compare, then, otherwise, agent, over),
            Call::Lock {
                act,
                key,
                ttl,
                fencing_revision,
            } => {
                let ends = operation.start + *ttl;
                match act {
                    Act::Acquire => self.acquire(key, agent, ends),
                    Act::Renew => self.renew(key, agent, *fencing_revision, ends, over),
                    Act::Release => self.release(key, agent, *fencing_revision, over),
                }
            }
        }
    }

    fn read(&self, key: &str) -> Effect {
        Effect::told(match self.get(key) {
            Some(held) => Outcome::Done(Answer::Found {
                entry: held.told(key),
                position: self.position(),
            }),
            None => Outcome::Refused(Refusal::NotFound),
        })
    }

    fn list(&self, prefix: &str, after: Option<&str>) -> Effect {
        let from = after.map_or(prefix, |after| after.max(prefix));
        let entries = self
            .entries
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, held)| held.told(key))
            .collect();
        Effect::told(Outcome::Done(Answer::Listed {
            entries,
            more: false,
            position: self.position(),
        }))
    }

    fn put(
        &self,
        key: &str,
        value: &str,
        agent: &str,
        fits: bool,
        ends: Option<Duration>,
    ) -> Effect {
        if !fits || self.is_lock(key) {
            return Effect::conflict();
        }
        Effect {
            outcome: Outcome::Done(Answer::Written {
                position: self.next(),
                previous_revision: self.revision_of(key),
            }),
            changes: vec![self.writing(key, value, agent, ends)],
        }
    }

    fn delete(&self, key: &str, fits: bool) -> Effect {
        if !fits || self.is_lock(key) {
            return Effect::conflict();
        }
        let deleted = self.get(key).is_some();
        Effect {
            outcome: Outcome::Done(Answer::Deleted {
                deleted,
                position: if deleted {
                    self.next()
                } else {
                    self.position()
                },
                previous_revision: self.revision_of(key),
            }),
            changes: self.erasing(key).into_iter().collect(),
        }
    }

    fn transact(
        &self,
        compare: &[Compare],
        then: &[Step],
        otherwise: &[Step],
        agent: &str,
        over: Option<Duration>,
    ) -> Effect {
        let succeeded = compare
            .iter()
            .all(|compare| self.holds(compare, agent, over));
        let steps = if succeeded { then } else { otherwise };
        let (mut results, mut changes) = (Vec::new(), Vec::new());
        for Step { key, what } in steps {
            if *what != Do::Get && self.is_lock(key) {
                return Effect::conflict();
            }
            results.push(match what {
                Do::Get => StepResult::Got(self.get(key).map(|held| held.told(key))),
                Do::Put(_) | Do::Delete => StepResult::Changed(self.revision_of(key)),
            });
            match what {
                Do::Get => {}
                Do::Put(value) => changes.push(self.writing(key, value, agent, None)),
                Do::Delete => changes.extend(self.erasing(key)),
            }
        }
        let position = if changes.is_empty() {
            self.position()
        } else {
            self.next()
        };
        Effect {
            outcome: Outcome::Done(Answer::Transacted {
                succeeded,
                results,
                position,
            }),
            changes,
        }
    }

    fn writing(&self, key: &str, value: &str, agent: &str, ends: Option<Duration>) -> Change {
        let before = self.get(key).cloned();
        let revision = self.revision + 1;
        Change {
            kind: Kind::Put,
            key: key.to_owned(),
            after: Some(Held {
                value: value.to_owned(),
                revision,
                created_revision: before
                    .as_ref()
                    .map_or(revision, |held| held.created_revision),
                writer: agent.to_owned(),
                is_lock: false,
                ends,
            }),
            before,
        }
    }

    fn erasing(&self, key: &str) -> Option<Change> {
        let before = self.get(key)?.clone();
        Some(Change {
            kind: Kind::Delete,
            key: key.to_owned(),
            before: Some(before),
            after: None,
        })
    }

    fn holds(&self, compare: &Compare, agent: &str, over: Option<Duration>) -> bool {
        let key = &compare.key;
        match &compare.condition {
            Condition::Revision(revision) => self.revision_of(key) == *revision,
            Condition::Held(fencing) => self.held_by(key, agent, Some(*fencing), over).is_some(),
            Condition::Value(value) => self
                .get(key)
                .is_some_and(|held| !held.is_lock && held.value == *value),
            Condition::Exists(exists) => self.get(key).is_some() == *exists,
        }
    }

    fn fits_lock(&self, if_lock: Option<&LockHeld>, agent: &str, over: Option<Duration>) -> bool {
        if_lock.is_none_or(|lock| {
            self.held_by(&lock.key, agent, Some(lock.fencing_revision), over)
                .is_some()
        })
    }

    fn is_lock(&self, key: &str) -> bool {
        self.get(key).is_some_and(|held| held.is_lock)
    }

    fn revision_of(&self, key: &str) -> u64 {
        self.get(key).map_or(0, |held| held.revision)
    }

    fn position(&self) -> Position {
        Position {
            epoch: 0,
            revision: self.revision,
        }
    }

    fn next(&self) -> Position {
        Position {
            epoch: 0,
            revision: self.revision + 1,
        }
    }
}

impl Held {
    /// As a client is told of it.
    pub(crate) fn told(&self, key: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            value: (!self.is_lock).then(|| self.value.clone()),
            revision: self.revision,
            created_revision: self.created_revision,
            writer: self.writer.clone(),
            is_lock: self.is_lock,
        }
    }

    /// Whether it may have ended by itself by then.
    pub(crate) fn has_outlived(&self, by: Option<Duration>) -> bool {
        self.ends.zip(by).is_some_and(|(ends, by)| ends <= by)
    }
}

impl Effect {
    fn told(outcome: Outcome) -> Self {
        Self {
            outcome,
            changes: Vec::new(),
        }
    }

    fn conflict() -> Self {
        Self::told(Outcome::Refused(Refusal::Conflict))
    }
}

/// Two hashes of 64 bits each: a search must not take one content for another.
pub(crate) fn fingerprint(name: impl Hash, item: &impl Hash) -> u128 {
    let hash = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &name, item).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    hash(0) << 64 | hash(1)
}
