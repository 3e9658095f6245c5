//! A control plane of one eventual board, in memory.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    board::Key,
    common::v1::Position,
    crdt::{Actor, Dot, HybridTime, Siblings, VectorClock, Version, Write},
    ids::MachineId,
};

use super::{about, board, terms, told};

#[derive(Clone, Default)]
pub(super) struct Model {
    revision: u64,
    keys: BTreeMap<Key, Siblings<Write>>,
    /// By which revision it took a version of a key.
    taken: BTreeMap<(Key, Dot), u64>,
    /// The highest counter of each actor.
    received: BTreeMap<Actor, u64>,
    /// Tombstones up to this revision are forgotten.
    pub(super) collected: u64,
    /// Positions before this one cannot be followed from.
    pub(super) floor: u64,
    /// Keys whose writes it refuses.
    pub(super) refused: BTreeSet<Key>,
    /// Every dot that it was ever told of, and what was written with it.
    written: BTreeMap<(Actor, u64), (Key, Version<Write>)>,
}

impl Model {
    pub(super) fn open(
        &mut self,
        machine: MachineId,
        incarnation: u32,
        counter: u64,
    ) -> (u32, u64) {
        let actor = |incarnation| Actor {
            machine,
            incarnation,
        };
        let received = |one: Actor| self.received.get(&one).copied().unwrap_or(0);
        if incarnation > 0 && received(actor(incarnation)) <= counter {
            return (incarnation, received(actor(incarnation)));
        }
        let known = self
            .received
            .keys()
            .filter(|known| known.machine == machine);
        let last = known.map(|known| known.incarnation);
        let last = last.filter(|known| *known < 1 << 31).max();
        let next = last.unwrap_or(0).max(incarnation) + 1;
        self.received.insert(actor(next), 0);
        (next, 0)
    }

    pub(super) fn push(
        &mut self,
        machine: MachineId,
        incarnation: u32,
        writes: Vec<pb::Pushed>,
    ) -> pb::PushResponse {
        let actor = Actor {
            machine,
            incarnation,
        };
        let mut refused = Vec::new();
        for write in writes {
            assert_eq!(write.board, board().as_str());
            let (key, version) = Version::from_proto(write.version.unwrap()).unwrap();
            assert_eq!(version.dot.actor, actor);
            let received = self.received.get(&actor).copied().unwrap_or(0);
            let counter = version.dot.counter;
            assert!(
                counter <= received + 1,
                "a gap before {counter}: {received}"
            );
            let known = self.written.entry((actor, counter));
            let known = known.or_insert_with(|| (key.clone(), version.clone()));
            assert_eq!(
                *known,
                (key.clone(), version.clone()),
                "a dot was used again"
            );
            if counter <= received {
                continue;
            }
            self.received.insert(actor, counter);
            if self.refused.contains(&key) {
                refused.push(pb::RefusedWrite {
                    board: board().to_string(),
                    siblings: Some(self.siblings(&key)),
                    key: key.to_string(),
                    counter,
                    ..pb::RefusedWrite::default()
                });
            } else {
                self.hear(key, version);
            }
        }
        let counter = self.received.get(&actor).copied().unwrap_or(0);
        pb::PushResponse { counter, refused }
    }

    /// Writes as the control plane itself does.
    pub(super) fn write(&mut self, key: Key, value: Option<&str>, millis: u64) {
        let actor = Actor {
            machine: MachineId::from_uuid(uuid::Uuid::nil()),
            incarnation: 1,
        };
        let counter = self.revision + 1;
        let mut siblings = self.keys.get(&key).cloned().unwrap_or_default();
        let content = Write {
            value: value.map(Into::into),
            writer: "admin:adm".into(),
            expires_at_millis: None,
        };
        let dot = Dot { actor, counter };
        siblings.write(dot, HybridTime::new(millis, 0), content);
        let version = siblings.versions()[0].clone();
        self.hear(key, version);
    }

    fn hear(&mut self, key: Key, version: Version<Write>) {
        let dot = version.dot;
        if self.keys.entry(key.clone()).or_default().hear(version) {
            self.revision += 1;
            self.taken.insert((key, dot), self.revision);
        }
    }

    fn siblings(&self, key: &Key) -> pb::Siblings {
        let siblings = self.keys.get(key).cloned().unwrap_or_default();
        let versions = siblings.versions().iter();
        let versions = versions.map(|version| {
            let revision = self.taken[&(key.clone(), version.dot)];
            version.to_proto(key, revision)
        });
        pb::Siblings {
            versions: versions.collect(),
        }
    }

    pub(super) fn position(&self) -> Position {
        Position {
            epoch: 1,
            revision: self.revision,
        }
    }

    /// What a replica lacks, in small parts.
    pub(super) fn follow(&self, have: &[pb::BoardPosition]) -> Vec<pb::FollowResponse> {
        let have = have.iter().find(|have| have.board == board().as_str());
        let have = have.and_then(|have| have.position);
        let have = have.filter(|at| at.epoch == 1 && at.revision >= self.floor);
        let have = have.filter(|at| at.revision <= self.revision);
        let after = have.map_or(0, |at| at.revision);
        let mut messages = vec![told(terms("plans", pb::Level::Eventual), have.is_none())];
        let mut versions: Vec<pb::Version> = Vec::new();
        for key in self.keys.keys() {
            versions.extend(self.siblings(key).versions);
        }
        versions.retain(|version| version.revision > after);
        versions.sort_by_key(|version| version.revision);
        for part in versions.chunks(3) {
            messages.push(about(About::Delta(pb::BoardDelta {
                board: board().to_string(),
                versions: part.to_vec(),
                ..pb::BoardDelta::default()
            })));
        }
        messages.push(about(About::Delta(pb::BoardDelta {
            board: board().to_string(),
            position: Some(self.position()),
            collected: self.collected,
            ..pb::BoardDelta::default()
        })));
        messages
    }

    /// Forgets tombstones, which all replicas have.
    pub(super) fn collect(&mut self) {
        self.collected = self.revision;
        self.keys.retain(|_, siblings| siblings.values() > 0);
    }

    /// What is in its keys.
    pub(super) fn contents(&self) -> Vec<(Key, String, usize, VectorClock)> {
        let keys = self.keys.iter();
        let keys = keys.filter_map(|(key, siblings)| {
            let value = siblings.winner()?.content.value.as_deref()?;
            let told = (value.to_owned(), siblings.values(), siblings.clock());
            Some((key.clone(), told.0, told.1, told.2))
        });
        keys.collect()
    }

    /// As if what it took since another state had been lost.
    pub(super) fn restore(&mut self, backup: &Self) {
        let written = std::mem::take(&mut self.written);
        *self = Self {
            written,
            ..backup.clone()
        };
    }
}
