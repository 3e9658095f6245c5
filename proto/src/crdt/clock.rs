//! What has been seen.

use std::{cmp::Ordering, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{Actor, Dot};

/// Of each actor, how many of its writes have been seen: all up to that one
/// (Mattern 1988; Fidge 1988).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VectorClock(BTreeMap<Actor, u64>);

impl VectorClock {
    /// How many writes of an actor have been seen.
    pub fn of(&self, actor: Actor) -> u64 {
        self.0.get(&actor).copied().unwrap_or(0)
    }

    /// Whether a write has been seen.
    pub fn has(&self, dot: Dot) -> bool {
        self.of(dot.actor) >= dot.counter
    }

    /// Sees a write, and with it all before it of the same actor.
    pub fn see(&mut self, dot: Dot) {
        let seen = self.0.entry(dot.actor).or_default();
        *seen = dot.counter.max(*seen);
    }

    /// Sees what another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (actor, counter) in other.iter() {
            self.see(Dot { actor, counter });
        }
    }

    /// The last write seen of each actor, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, u64)> {
        self.0.iter().map(|(actor, counter)| (*actor, *counter))
    }

    /// How many actors' writes have been seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialOrd for VectorClock {
    /// `Less`: the other has seen all of this and more; `None`: each has seen
    /// what the other has not.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        let within = |inner: &Self, outer: &Self| {
            let mut seen = inner.iter();
            seen.all(|(actor, counter)| outer.of(actor) >= counter)
        };
        match (within(self, other), within(other, self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Less),
            (false, true) => Some(Ordering::Greater),
            (false, false) => None,
        }
    }
}

impl FromIterator<(Actor, u64)> for VectorClock {
    fn from_iter<T: IntoIterator<Item = (Actor, u64)>>(seen: T) -> Self {
        let mut clock = Self::default();
        for (actor, counter) in seen.into_iter().filter(|(_, counter)| *counter > 0) {
            clock.see(Dot { actor, counter });
        }
        clock
    }
}
