//! What is in one key.

use std::sync::Arc;

use authguardian_proto::{
    blackboard::v1 as pb,
    board::Key,
    crdt::{Dot, HybridTime, Siblings, VectorClock, Version, Write},
};
use prost::Message;

use super::error::{Result, corrupted};

/// What readers are told of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The replica's revision that changed it last.
    pub revision: u64,
    /// What is in it.
    pub content: Content,
}

/// What is in a key, by the level of its board.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Of an eventual board.
    Eventual(Value),
    /// Of a session board, as the control plane told it.
    Session(pb::Entry),
}

/// The value of several that readers are told, and how many there are.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// JSON text.
    pub value: Arc<str>,
    /// Who wrote it.
    pub writer: Arc<str>,
    /// Which write it is.
    pub dot: Dot,
    /// When.
    pub time: HybridTime,
    /// When it ends by itself, in milliseconds since 1970; `None`: never.
    pub expires_at_millis: Option<u64>,
    /// How many values there are, itself included.
    pub siblings: usize,
    /// All that was seen of the key.
    pub clock: VectorClock,
}

/// How much a key counts in the quotas of its board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) keys: u64,
    pub(super) bytes: u64,
}

/// What is known of a key. Nothing at all: it is gone, and watches are to be told.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Record {
    /// Of an eventual board.
    pub(super) siblings: Siblings<Write>,
    /// Of its tombstones that the control plane has taken, with which of its revisions: by
    /// that they can be forgotten.
    pub(super) taken: Vec<(Dot, u64)>,
    /// Of a session board.
    pub(super) entry: Option<pb::Entry>,
    /// The replica's revision that changed it last; 0: there is no record.
    pub(super) revision: u64,
    /// That of the board when it was last told or written.
    pub(super) generation: u64,
    /// Whether what is gone ended by itself.
    pub(super) has_expired: bool,
}

/// Why a record without a value can be forgotten, by which revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Tombstones, all of which the control plane has taken by this revision of its.
    Tombstone(u64),
    /// Nothing, since this revision of the replica.
    Gone(u64),
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredRecord {
    /// Their keys are left out.
    #[prost(message, repeated, tag = "1")]
    versions: Vec<pb::Version>,
    #[prost(message, optional, tag = "2")]
    entry: Option<pb::Entry>,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(uint64, tag = "4")]
    generation: u64,
    #[prost(bool, tag = "5")]
    has_expired: bool,
}

impl Record {
    /// Reads a key's row.
    pub(super) fn decode(key: &Key, row: &[u8]) -> Result<Self> {
        let stored = StoredRecord::decode(row).map_err(|_| corrupted("a record of a key"))?;
        let mut record = Self {
            entry: stored.entry,
            revision: stored.revision,
            generation: stored.generation,
            has_expired: stored.has_expired,
            ..Self::default()
        };
        for mut version in stored.versions {
            version.key = key.to_string();
            let revision = version.revision;
            let read = Version::from_proto(version);
            let (_, version) = read.map_err(|_| corrupted("a version of a key"))?;
            record.hear(version, revision);
        }
        Ok(record)
    }

    pub(super) fn encode(&self, key: &Key) -> Vec<u8> {
        let versions = self.siblings.versions().iter();
        let versions = versions.map(|version| pb::Version {
            key: String::new(),
            ..version.to_proto(key, self.taken_by(version.dot))
        });
        let stored = StoredRecord {
            versions: versions.collect(),
            entry: self.entry.clone(),
            revision: self.revision,
            generation: self.generation,
            has_expired: self.has_expired,
        };
        stored.encode_to_vec()
    }

    /// Hears of a version; `revision`: the control plane's that took it, 0: none.
    pub(super) fn hear(&mut self, version: Version<Write>, revision: u64) {
        let dot = version.dot;
        let is_other = |one: &Version<Write>| one.dot == dot && *one != version;
        if revision > 0 && self.siblings.versions().iter().any(is_other) {
            // what it takes it takes for all: with no more seen, and no later, than it knows of
            self.keep(|known| known != dot);
        }
        if self.siblings.hear(version) {
            let versions = self.siblings.versions();
            self.taken
                .retain(|(dot, _)| versions.iter().any(|version| version.dot == *dot));
        }
        let is_there = |one: &Version<Write>| one.dot == dot && one.is_tombstone();
        if revision > 0 && self.siblings.versions().iter().any(is_there) {
            self.taken.retain(|(taken, _)| *taken != dot);
            self.taken.push((dot, revision));
            self.taken.sort_unstable_by_key(|(dot, _)| *dot);
        }
    }

    /// Leaves only some versions.
    pub(super) fn keep(&mut self, keep: impl Fn(Dot) -> bool) {
        let versions = self.siblings.versions().iter();
        self.siblings = versions.filter(|one| keep(one.dot)).cloned().collect();
        self.taken.retain(|(dot, _)| keep(*dot));
    }

    /// The control plane's revision that took a tombstone; 0: none.
    fn taken_by(&self, dot: Dot) -> u64 {
        let taken = self.taken.iter().find(|(taken, _)| *taken == dot);
        taken.map_or(0, |(_, revision)| *revision)
    }

    /// Whether nothing is left of the key.
    pub(super) fn is_gone(&self) -> bool {
        self.siblings.is_empty() && self.entry.is_none()
    }

    /// Whether there is a value, be it one that has ended by itself.
    pub(super) fn has_value(&self) -> bool {
        self.entry.is_some() || self.siblings.values() > 0
    }

    /// Whether readers are told the same of both.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.siblings == other.siblings && self.entry == other.entry
    }

    /// Its values that have not ended by themselves.
    pub(super) fn values(&self, now: u64) -> impl Iterator<Item = &Version<Write>> {
        let versions = self.siblings.versions().iter();
        versions.filter(move |version| !version.is_tombstone() && !has_ended(version, now))
    }

    /// What readers are told at a time; `None`: there is nothing.
    pub(super) fn found(&self, now: u64) -> Option<Found> {
        let revision = self.revision;
        if let Some(entry) = &self.entry {
            let content = Content::Session(entry.clone());
            // when it has ended the control plane says, in the order of its board
            return Some(Found { revision, content });
        }
        let winner = self.values(now).max_by_key(|one| (one.time, one.dot))?;
        let content = Content::Eventual(Value {
            value: winner.content.value.clone()?,
            writer: winner.content.writer.clone(),
            dot: winner.dot,
            time: winner.time,
            expires_at_millis: winner.content.expires_at_millis,
            siblings: self.values(now).count(),
            clock: self.siblings.clock(),
        });
        Some(Found { revision, content })
    }

    /// Bytes of all its values.
    pub(super) fn bytes(&self) -> usize {
        let versions = self.siblings.versions().iter();
        let values = versions.filter_map(|version| version.content.value.as_deref());
        values.map(str::len).sum()
    }

    /// How much it counts: whatever has not been deleted, as the control plane counts.
    pub(super) fn weight(&self, key: &Key) -> Weight {
        let winner = self.siblings.winner();
        let value = winner.and_then(|winner| winner.content.value.as_deref());
        let entry = self.entry.as_ref().map(|entry| entry.value.as_str());
        Self::weight_of(key, value.or(entry))
    }

    /// How much a key with a value would count.
    pub(super) fn weight_of(key: &Key, value: Option<&str>) -> Weight {
        value.map_or(Weight::default(), |value| Weight {
            keys: 1,
            bytes: (key.as_str().len() + value.len()) as u64,
        })
    }

    /// Whether, and since when, it can be forgotten.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.is_gone() {
            return (self.revision > 0).then_some(Ended::Gone(self.revision));
        }
        if self.has_value() {
            return None;
        }
        let dots = self.siblings.versions().iter().map(|version| version.dot);
        let taken: Vec<u64> = dots.map(|dot| self.taken_by(dot)).collect();
        let last = taken.iter().max().copied()?;
        taken
            .iter()
            .all(|revision| *revision > 0)
            .then_some(Ended::Tombstone(last))
    }

    /// Who ended what was there; empty: not known.
    pub(super) fn ended_by(&self) -> Arc<str> {
        let winner = self.siblings.winner();
        winner.map_or_else(|| "".into(), |winner| winner.content.writer.clone())
    }

    /// Whether this, which has no value, came of what was there before ending by itself:
    /// only the control plane says so.
    pub(super) fn comes_of_expiry(&self, before: &Self, now: u64) -> bool {
        if let Some(entry) = &before.entry {
            return entry_has_ended(entry, now);
        }
        let Some(tombstone) = self.siblings.winner() else {
            return false;
        };
        let mut values = before.siblings.versions().iter();
        tombstone.dot.actor.machine.as_uuid().is_nil()
            && values.all(|one| one.is_tombstone() || has_ended(one, tombstone.time.millis()))
    }
}

fn has_ended(version: &Version<Write>, now: u64) -> bool {
    let end = version.content.expires_at_millis;
    end.is_some_and(|end| end <= now)
}

fn entry_has_ended(entry: &pb::Entry, now: u64) -> bool {
    entry.expires_at.is_some_and(|end| {
        let seconds = u64::try_from(end.seconds).unwrap_or_default();
        let millis = u64::try_from(end.nanos / 1_000_000).unwrap_or_default();
        seconds * 1000 + millis <= now
    })
}
