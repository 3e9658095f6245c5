//! What is in one key.

use super::{Dot, HybridTime, VectorClock};

/// What was written.
pub trait Content {
    /// Whether the key was deleted.
    fn is_tombstone(&self) -> bool;
}

impl<T> Content for Option<T> {
    fn is_tombstone(&self) -> bool {
        self.is_none()
    }
}

/// One write of a key. Two of the same dot are the same write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version<T> {
    /// Which write.
    pub dot: Dot,
    /// All that it had seen of its key, itself included.
    pub clock: VectorClock,
    /// When, for the order among those that had not seen each other.
    pub time: HybridTime,
    /// What was written.
    pub content: T,
}

impl<T: Content> Version<T> {
    /// Whether it was written in sight of another, and so in its place.
    pub fn replaces(&self, other: &Self) -> bool {
        self.dot != other.dot && self.clock.has(other.dot)
    }

    /// Whether its key was deleted.
    pub fn is_tombstone(&self) -> bool {
        self.content.is_tombstone()
    }
}

/// The versions of a key none of which has seen another, by their dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings<T>(Vec<Version<T>>);

impl<T> Default for Siblings<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Content> Siblings<T> {
    /// All of them.
    pub fn versions(&self) -> &[Version<T>] {
        &self.0
    }

    /// Whether nothing is known of the key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that readers are told: the latest value, or where all have deleted
    /// the key, the latest tombstone. A deletion hides no value that it has not
    /// seen.
    pub fn winner(&self) -> Option<&Version<T>> {
        let rank = |version: &&Version<T>| (!version.is_tombstone(), version.time, version.dot);
        self.0.iter().max_by_key(rank)
    }

    /// How many values there are.
    pub fn values(&self) -> usize {
        let values = self.0.iter().filter(|version| !version.is_tombstone());
        values.count()
    }

    /// All that was seen of the key.
    pub fn clock(&self) -> VectorClock {
        let mut clock = VectorClock::default();
        for version in &self.0 {
            clock.merge(&version.clock);
        }
        clock
    }

    /// A write in sight of all of these, which it replaces.
    pub fn write(&mut self, dot: Dot, time: HybridTime, content: T) {
        let mut clock = self.clock();
        clock.see(dot);
        self.0 = vec![Version {
            dot,
            clock,
            time,
            content,
        }];
    }

    /// Hears of a version; whether it is one of these now and was not before.
    pub fn hear(&mut self, version: Version<T>) -> bool {
        let known = |one: &Version<T>| one.dot == version.dot || one.replaces(&version);
        if self.0.iter().any(known) {
            return false;
        }
        self.0.retain(|one| !version.replaces(one));
        let place = self.0.partition_point(|one| one.dot < version.dot);
        self.0.insert(place, version);
        true
    }

    /// Hears of all that another state has; whether anything was new.
    pub fn merge(&mut self, other: Self) -> bool {
        let heard = other.0.into_iter().map(|version| self.hear(version));
        heard.fold(false, |any, new| any | new)
    }
}

impl<T: Content> FromIterator<Version<T>> for Siblings<T> {
    fn from_iter<I: IntoIterator<Item = Version<T>>>(versions: I) -> Self {
        let mut siblings = Self::default();
        for version in versions {
            siblings.hear(version);
        }
        siblings
    }
}
