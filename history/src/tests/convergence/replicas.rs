//! Replicas that merge as they should, or have a fault.

use std::collections::{BTreeMap, BTreeSet};

use crate::eventual::{Clock, Dot, Replica, Siblings, Version};

/// What is wrong with replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Of versions that have not seen each other only the latest is kept.
    KeepsOne,
    /// Tombstones are forgotten that not all replicas have heard of.
    ForgetsEarly,
    /// One who was put back to an older disk goes on as the same actor.
    ReusesDots,
    /// What a replica has acknowledged and not told others is gone after a start.
    ForgetsAtStart,
    /// What was refused is done.
    DoesWhatItRefuses,
    /// What was heard of is kept beside what has seen it.
    KeepsReplaced,
    /// The last words do not reach everybody.
    LeavesOneOut,
    /// Readers are told what was written here.
    PrefersItsOwn,
    /// A deletion is taken to have seen what it has not.
    DeletesUnseen,
}

pub(super) const FAULTS: [Fault; 9] = [
    Fault::KeepsOne,
    Fault::ForgetsEarly,
    Fault::ReusesDots,
    Fault::ForgetsAtStart,
    Fault::DoesWhatItRefuses,
    Fault::KeepsReplaced,
    Fault::LeavesOneOut,
    Fault::PrefersItsOwn,
    Fault::DeletesUnseen,
];

/// One replica, in its present life.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) fault: Option<Fault>,
    pub(super) name: String,
    pub(super) life: u64,
    pub(super) counter: u64,
    pub(super) time: u64,
    pub(super) keys: BTreeMap<String, Vec<Version>>,
}

impl Node {
    pub(super) fn write(&mut self, key: &str, value: Option<String>, wall: u64) -> Version {
        self.counter += 1;
        self.time = wall.max(self.time + 1);
        let dot = Dot {
            actor: format!("{}.{}", self.name, self.life),
            counter: self.counter,
        };
        let versions = self.keys.entry(key.to_owned()).or_default();
        let mut clock = Clock::default();
        for version in versions.iter() {
            clock.merge(&version.clock);
        }
        clock.see(&dot);
        let version = Version {
            dot,
            clock,
            time: self.time,
            value,
        };
        *versions = vec![version.clone()];
        version
    }

    pub(super) fn hear(&mut self, other: &Self) {
        for (key, versions) in &other.keys {
            for version in versions {
                self.time = self.time.max(version.time);
                self.hear_version(key, version);
            }
        }
    }

    fn hear_version(&mut self, key: &str, version: &Version) {
        let versions = self.keys.entry(key.to_owned()).or_default();
        let is_kept = self.fault == Some(Fault::KeepsReplaced);
        let is_known =
            |one: &Version| one.dot == version.dot || one.replaces(&version.dot) && !is_kept;
        if versions.iter().any(is_known) {
            return;
        }
        let is_all = self.fault == Some(Fault::DeletesUnseen) && version.value.is_none();
        versions.retain(|one| !is_all && !version.replaces(&one.dot));
        versions.push(version.clone());
        if self.fault == Some(Fault::KeepsOne) {
            versions.sort_by_key(|version| (version.time, version.dot.clone()));
            versions.drain(..versions.len() - 1);
        }
    }

    /// Whether it has a version, or one that has seen it.
    pub(super) fn has_seen(&self, key: &str, version: &Version) -> bool {
        let mut versions = self.keys.get(key).into_iter().flatten();
        versions.any(|one| one.clock.has(&version.dot))
    }

    pub(super) fn dots(&self) -> BTreeSet<Dot> {
        let versions = self.keys.values().flatten();
        versions.map(|version| version.dot.clone()).collect()
    }

    pub(super) fn forget(&mut self, dot: &Dot) {
        for versions in self.keys.values_mut() {
            versions.retain(|version| version.dot != *dot);
        }
    }

    pub(super) fn told(&self) -> Replica {
        let keys = self.keys.iter().map(|(key, versions)| {
            let values = versions.iter().filter(|version| version.value.is_some());
            let is_preferred = |version: &Version| {
                self.fault == Some(Fault::PrefersItsOwn)
                    && version.dot.actor.starts_with(&self.name)
            };
            let winner =
                values.max_by_key(|version| (is_preferred(version), version.time, &version.dot));
            let siblings = Siblings {
                winner: winner.and_then(|version| version.value.clone()),
                versions: versions.clone(),
            };
            (key.clone(), siblings)
        });
        Replica {
            name: self.name.clone(),
            keys: keys.collect(),
        }
    }
}
