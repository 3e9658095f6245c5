//! Boards whose replicas merge: what clients wrote, and what replicas have in
//! the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::operation::{Call, Operation, Outcome};

/// All that was asked of one board, and what came of it.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// All of them, those of before the test too.
    pub writes: Vec<Write>,
    /// Once all have heard of everything.
    pub replicas: Vec<Replica>,
    /// Tombstones that are forgotten, since every replica had heard of them. One
    /// that has not forgotten it yet may have it still.
    pub collected: BTreeSet<Dot>,
}

/// A write or a deletion of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Who asked for it, and where, for reports.
    pub client: String,
    /// Of which key.
    pub key: String,
    /// As text, letter by letter as replicas tell it; `None`: it was deleted.
    pub value: Option<String>,
    /// What became of it.
    pub fate: Fate,
    /// As which write, where that was told. Without, it is known by its value,
    /// which no other write of the key may have.
    pub stamp: Option<Stamp>,
    /// When it was asked for first.
    pub start: Duration,
    /// When that was answered for good; `None`: never.
    pub end: Option<Duration>,
    /// Whether it may end by itself.
    pub may_end: bool,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its client was told that it was done.
    Acknowledged,
    /// It was definitely not done, or was taken back: one that an edge took and
    /// the control plane would not have.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Which write it was, and what it had seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Which.
    pub dot: Dot,
    /// All that it had seen of its key, itself included; empty: not told.
    pub clock: Clock,
}

/// One write of one who writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Whose: a replica, in one of its lives.
    pub actor: String,
    /// Which, counted from 1.
    pub counter: u64,
}

/// Of each actor, the last write that has been seen, with all before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clock(BTreeMap<String, u64>);

/// What one replica has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replica {
    /// Whose, for reports.
    pub name: String,
    /// By key; one without versions is as none.
    pub keys: BTreeMap<String, Siblings>,
}

/// What is in one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Siblings {
    /// In any order, tombstones too.
    pub versions: Vec<Version>,
    /// What readers are told; `None`: that the key is not there.
    pub winner: Option<String>,
}

/// One write of a key, as a replica has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Which write.
    pub dot: Dot,
    /// All that it had seen of its key, itself included.
    pub clock: Clock,
    /// For the order among those that had not seen each other; 0 everywhere: not
    /// told.
    pub time: u64,
    /// `None`: a tombstone.
    pub value: Option<String>,
}

impl Write {
    /// From a call that was recorded; `None`: it is neither put nor delete.
    pub fn of(operation: &Operation, stamp: Option<Stamp>) -> Option<Self> {
        let (key, value, may_end) = match &operation.call {
            Call::Put {
                key, value, ttl, ..
            } => (key, Some(value), ttl.is_some()),
            Call::Delete { key, .. } => (key, None, false),
            _ => return None,
        };
        Some(Self {
            client: operation.client.clone(),
            key: key.clone(),
            value: value.cloned(),
            fate: match operation.outcome {
                Outcome::Done(_) => Fate::Acknowledged,
                Outcome::Refused(_) => Fate::Refused,
                Outcome::Unknown => Fate::Unknown,
            },
            stamp,
            start: operation.start,
            end: operation.end,
            may_end,
        })
    }

    /// Which write it was, where that was told.
    pub fn dot(&self) -> Option<&Dot> {
        self.stamp.as_ref().map(|stamp| &stamp.dot)
    }

    /// Whether it is known to have been done in sight of another, and so in its
    /// place.
    pub fn replaces(&self, other: &Dot) -> bool {
        self.stamp
            .as_ref()
            .is_some_and(|stamp| stamp.dot != *other && stamp.clock.has(other))
    }
}

impl Version {
    /// Whether it was written in sight of another, and so in its place.
    pub fn replaces(&self, other: &Dot) -> bool {
        self.dot != *other && self.clock.has(other)
    }
}

impl Clock {
    /// Whether a write has been seen.
    pub fn has(&self, dot: &Dot) -> bool {
        let seen = self.0.get(&dot.actor);
        seen.is_some_and(|counter| *counter >= dot.counter)
    }

    /// Sees a write, and with it all before it of the same actor.
    pub fn see(&mut self, dot: &Dot) {
        let counter = self.0.entry(dot.actor.clone()).or_default();
        *counter = dot.counter.max(*counter);
    }

    /// Sees what another has seen.
    pub fn merge(&mut self, other: &Self) {
        for (actor, counter) in &other.0 {
            self.see(&Dot {
                actor: actor.clone(),
                counter: *counter,
            });
        }
    }

    /// Whether nothing has been seen, or it was not told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<A: Into<String>> FromIterator<(A, u64)> for Clock {
    fn from_iter<I: IntoIterator<Item = (A, u64)>>(seen: I) -> Self {
        let mut clock = Self::default();
        for (actor, counter) in seen {
            let actor = actor.into();
            clock.see(&Dot { actor, counter });
        }
        clock
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.actor, self.counter)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{")?;
        for (number, (actor, counter)) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{actor}:{counter}")?;
        }
        write!(f, "}}")
    }
}
