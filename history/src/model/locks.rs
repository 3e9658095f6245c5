//! What acts on locks come to.

use std::time::Duration;

use super::{Board, Change, Effect, Held};
use crate::{
    operation::{Answer, Outcome},
    watching::Kind,
};

impl Board {
    pub(super) fn acquire(&self, key: &str, agent: &str, ends: Duration) -> Effect {
        if self.get(key).is_some() {
            // one that is over ends first, by a revision of its own
            return self.not_held(key, None);
        }
        let revision = self.revision + 1;
        let change = Change {
            kind: Kind::Put,
            key: key.to_owned(),
            before: None,
            after: Some(Held {
                value: String::new(),
                revision,
                created_revision: revision,
                writer: agent.to_owned(),
                is_lock: true,
                ends: Some(ends),
            }),
        };
        self.locked(true, revision, agent, vec![change])
    }

    pub(super) fn renew(
        &self,
        key: &str,
        agent: &str,
        fencing: Option<u64>,
        ends: Duration,
        over: Option<Duration>,
    ) -> Effect {
        let Some(held) = self.held_by(key, agent, fencing, over) else {
            return self.not_held(key, over);
        };
        let after = Held {
            revision: self.revision + 1,
            ends: Some(ends),
            ..held.clone()
        };
        let change = Change {
            kind: Kind::Put,
            key: key.to_owned(),
            before: Some(held.clone()),
            after: Some(after),
        };
        self.locked(true, held.created_revision, agent, vec![change])
    }

    pub(super) fn release(
        &self,
        key: &str,
        agent: &str,
        fencing: Option<u64>,
        over: Option<Duration>,
    ) -> Effect {
        let Some(held) = self.held_by(key, agent, fencing, over) else {
            return self.not_held(key, over);
        };
        let changes = self.erasing(key).into_iter().collect();
        self.locked(false, held.created_revision, "", changes)
    }

    fn not_held(&self, key: &str, over: Option<Duration>) -> Effect {
        match self.get(key) {
            Some(held) if held.is_lock && held.has_outlived(over) => {
                self.locked(false, 0, "", Vec::new())
            }
            Some(held) if held.is_lock => {
                self.locked(false, held.created_revision, &held.writer, Vec::new())
            }
            Some(_) => Effect::conflict(),
            None => self.locked(false, 0, "", Vec::new()),
        }
    }

    fn locked(&self, held: bool, fencing: u64, holder: &str, changes: Vec<Change>) -> Effect {
        let position = if changes.is_empty() {
            self.position()
        } else {
            self.next()
        };
        Effect {
            outcome: Outcome::Done(Answer::Locked {
                held,
                fencing_revision: fencing,
                holder: holder.to_owned(),
                position,
            }),
            changes,
        }
    }

    /// The lock, if this agent holds it. One that has outlived its time by
    /// `over` is held no more, though it is still there.
    pub(super) fn held_by(
        &self,
        key: &str,
        agent: &str,
        fencing: Option<u64>,
        over: Option<Duration>,
    ) -> Option<&Held> {
        self.get(key).filter(|held| {
            held.is_lock
                && held.writer == agent
                && fencing.is_none_or(|fencing| fencing == held.created_revision)
                && !held.has_outlived(over)
        })
    }
}
