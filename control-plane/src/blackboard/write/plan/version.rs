//! What becomes of the keys of eventual boards: writes of the control plane, and
//! those of replicas, are versions; the one that readers are told is the entry.

use std::collections::HashSet;

use authguardian_proto::{
    board::{Key, Level},
    crdt::{Actor, Dot, HybridClock, HybridTime, Siblings, VectorClock, Version, Write},
    ids::{AgentId, BoardName, MachineId},
    reason::{Problem, Reason},
};
use time::OffsetDateTime;

use super::{Place, Plan, Step};
use crate::{
    blackboard::{
        access::Writer,
        board::Board,
        entry::{Change, ChangeKind, Entry, Value},
        store::moment,
        write::act::{MergedWrite, Outcome, RefusedWrite},
    },
    error::{Error, Result},
};

/// What the control plane writes as; see [`crate::events::Position`].
const CONTROL_PLANE: MachineId = MachineId::from_uuid(uuid::Uuid::nil());

impl Plan {
    /// Takes writes of a replica in order, but those that the board has had; what
    /// `lets` refuses is left out and told, each time that it is handed over.
    pub(super) fn merge(
        &mut self,
        name: &BoardName,
        actor: Actor,
        writes: &[MergedWrite],
        lets: impl Fn(&AgentId) -> Result<()>,
    ) -> Result<Outcome> {
        if self.board(name)?.level != Level::Eventual {
            return Err(Error::invalid("writes", "expected an eventual board"));
        }
        let (mut merged, mut refused) = (Vec::new(), Vec::new());
        for write in writes {
            let counter = write.version.dot.counter;
            let known = (name.clone(), actor);
            if self.heard.get(&known).or(self.received.get(&known)) >= Some(&counter) {
                // the answer may have been lost that it was refused
                let seen = self.siblings_of(name, &write.key).clock();
                if !seen.has(write.version.dot) {
                    refused.push(RefusedWrite {
                        key: write.key.clone(),
                        counter,
                        problem: gone(),
                    });
                }
                continue;
            }
            self.heard.insert(known, counter);
            if let Err(error) = lets(&write.agent) {
                refused.push(RefusedWrite {
                    key: write.key.clone(),
                    counter,
                    problem: error.problem().clone(),
                });
                continue;
            }
            let version = self.bounded(name, &write.version)?;
            if self.hear(name, &write.key, version, ChangeKind::Delete, None)? {
                merged.push((write.key.clone(), write.agent.clone()));
            }
        }
        Ok(Outcome::Merge { merged, refused })
    }

    /// What a replica hands over is in order only after what it has handed over
    /// before, which a restored database may have lost.
    pub(super) fn check_epoch(&self, name: &BoardName, epoch: i64) -> Result<()> {
        if self.board(name)?.position.epoch == epoch {
            return Ok(());
        }
        let detail = "the database is of another epoch: open the replica anew";
        Err(Error::new(Reason::Compacted, detail))
    }

    /// Makes versions of what the control plane itself writes.
    pub(super) fn write_versions(
        &mut self,
        name: &BoardName,
        steps: Vec<Step>,
        writer: &Writer,
    ) -> Result<()> {
        for step in steps {
            let kind = step.kind;
            let key = step.key.clone();
            let siblings = self.siblings_of(name, &key);
            let seen = match kind {
                ChangeKind::Expire => self.clock_of_ended(&siblings),
                ChangeKind::Put | ChangeKind::Delete => siblings.clock(),
            };
            let version = self.next_version(name, &siblings, seen, step, writer)?;
            if kind == ChangeKind::Put {
                self.check_fits(name, &key, &version)?;
            }
            // it has seen what is there, and nobody can have seen it
            if !self.hear(name, &key, version, kind, Some(writer))? {
                return Err(Error::internal(
                    "a write of the control plane is nothing new",
                ));
            }
        }
        Ok(())
    }

    /// A replica's write with no more seen than the board has had, and not later than a
    /// little after now: else a machine that lies, or whose clock is wrong, could hide what
    /// others will write, or win for good. The replica takes it over as it is here.
    fn bounded(&self, name: &BoardName, version: &Version<Write>) -> Result<Version<Write>> {
        let revision = self.board(name)?.position.revision;
        let revision = u64::try_from(revision).map_err(Error::internal)?;
        let had = |actor: Actor| {
            if actor.machine == CONTROL_PLANE {
                return revision;
            }
            let known = (name.clone(), actor);
            let counter = self.heard.get(&known).or(self.received.get(&known));
            counter.copied().unwrap_or(0)
        };
        let seen = version.clock.iter();
        let clock = seen.map(|(actor, counter)| (actor, counter.min(had(actor))));
        let latest = millis(self.now).saturating_add(HybridClock::MAX_AHEAD_MILLIS);
        Ok(Version {
            clock: clock.collect(),
            time: version.time.min(HybridTime::new(latest, 0)),
            ..version.clone()
        })
    }

    fn siblings_of(&self, name: &BoardName, key: &Key) -> Siblings<Write> {
        let place = (name.clone(), key.clone());
        self.siblings.get(&place).cloned().unwrap_or_default()
    }

    /// What was seen of a key by those of its values that have come to their end.
    fn clock_of_ended(&self, siblings: &Siblings<Write>) -> VectorClock {
        let mut seen = VectorClock::default();
        for version in siblings.versions() {
            let end = version.content.expires_at_millis.and_then(moment);
            if end.is_some_and(|end| end <= self.now) {
                seen.merge(&version.clock);
            }
        }
        seen
    }

    fn next_version(
        &self,
        name: &BoardName,
        siblings: &Siblings<Write>,
        mut clock: VectorClock,
        step: Step,
        writer: &Writer,
    ) -> Result<Version<Write>> {
        let at = self.board(name)?.position;
        let dot = Dot {
            actor: Actor {
                machine: CONTROL_PLANE,
                incarnation: u32::try_from(at.epoch).map_err(Error::internal)?,
            },
            counter: u64::try_from(at.revision + 1).map_err(Error::internal)?,
        };
        clock.see(dot);
        let latest = siblings.versions().iter().map(|version| version.time).max();
        let expires_at = step.expires_at.map(millis);
        Ok(Version {
            dot,
            clock,
            time: HybridClock::after(latest.unwrap_or_default()).tick(millis(self.now)),
            content: Write {
                value: step.value.map(|value| value.as_str().into()),
                writer: writer.name.as_str().into(),
                expires_at_millis: expires_at,
            },
        })
    }

    /// Whether what is written here keeps the board within its quota; what comes
    /// from replicas is acknowledged there already, and is taken.
    fn check_fits(&self, name: &BoardName, key: &Key, version: &Version<Write>) -> Result<()> {
        let mut board = self.board(name)?.clone();
        let come = bytes_of(key, &version.content);
        self.account(&mut board, name, key, come);
        self.check_quota(name, &board)
    }

    /// Hears of a version: one revision of the board, unless it is nothing new.
    /// `gone`: what it is called when no value is left.
    fn hear(
        &mut self,
        name: &BoardName,
        key: &Key,
        version: Version<Write>,
        gone: ChangeKind,
        writer: Option<&Writer>,
    ) -> Result<bool> {
        let dot = version.dot;
        let mut siblings = self.siblings_of(name, key);
        let told = siblings.winner().map(|version| version.dot);
        if !siblings.hear(version) {
            return Ok(false);
        }
        let mut board = self.board(name)?.clone();
        board.position.revision += 1;
        let revision = board.position.revision;
        let place = (name.clone(), key.clone());
        let was_there = self.known(name, key).is_some();
        let change = match siblings.winner() {
            Some(winner) if !winner.is_tombstone() && Some(winner.dot) != told => {
                let writer = writer.filter(|_| winner.dot == dot);
                let entry = self.entry_of(key, winner, revision, name, writer)?;
                Some((ChangeKind::Put, entry))
            }
            Some(winner) if winner.is_tombstone() && was_there => {
                let writer = writer.filter(|_| winner.dot == dot);
                let entry = self.entry_of(key, winner, revision, name, writer)?;
                Some((gone, entry))
            }
            _ => None,
        };
        if let Some((kind, entry)) = change {
            let come = siblings
                .winner()
                .map_or(0, |winner| bytes_of(key, &winner.content));
            self.account(&mut board, name, key, come);
            let change = Change {
                kind,
                previous_revision: self.revision(name, key),
                entry,
                previous: None,
            };
            self.put_in_place(name, 0, change);
        }
        self.boards.insert(name.clone(), board);
        self.taken_at.insert((place.clone(), dot), revision);
        self.siblings.insert(place, siblings);
        Ok(true)
    }

    /// Counts what a key has from now on, in bytes; 0: it is gone.
    fn account(&self, board: &mut Board, name: &BoardName, key: &Key, come: u64) {
        let before = self.known(name, key);
        let (was, is) = (u64::from(before.is_some()), u64::from(come > 0));
        let gone = before.map_or(0, |before| before.bytes);
        board.keys = (board.keys + is).saturating_sub(was);
        board.bytes = (board.bytes + come).saturating_sub(gone);
    }

    fn entry_of(
        &self,
        key: &Key,
        version: &Version<Write>,
        revision: i64,
        name: &BoardName,
        writer: Option<&Writer>,
    ) -> Result<Entry> {
        let machine = version.dot.actor.machine;
        let content = &version.content;
        Ok(Entry {
            created_revision: self
                .entry(name, key)
                .map_or(revision, |before| before.created_revision),
            key: key.clone(),
            value: content
                .value
                .as_deref()
                .map(|value| Value::stored(value.to_owned())),
            revision,
            is_lock: false,
            writer: content.writer.to_string(),
            machine_id: match writer {
                Some(writer) => writer.machine,
                None => Some(machine).filter(|machine| *machine != CONTROL_PLANE),
            },
            grant_id: writer.and_then(|writer| writer.grant),
            written_at: written_at(version.time)
                .ok_or_else(|| Error::internal("a version is of no time"))?,
            expires_at: content.expires_at_millis.and_then(moment),
        })
    }

    /// Versions that were there before the batch, and are no longer.
    pub(in crate::blackboard) fn replaced(&self) -> impl Iterator<Item = (&Place, Dot)> {
        self.before.iter().flat_map(|(place, before)| {
            let now: HashSet<Dot> = self.siblings.get(place).map_or_else(HashSet::new, dots);
            let gone = before.iter().filter(move |dot| !now.contains(dot));
            gone.map(move |dot| (place, *dot))
        })
    }

    /// Versions that the batch has brought and not replaced itself, with their
    /// revisions.
    pub(in crate::blackboard) fn taken(
        &self,
    ) -> impl Iterator<Item = (&Place, &Version<Write>, i64)> {
        self.siblings.iter().flat_map(move |(place, siblings)| {
            siblings.versions().iter().filter_map(move |version| {
                let revision = self.taken_at.get(&(place.clone(), version.dot))?;
                Some((place, version, *revision))
            })
        })
    }
}

/// A write that the board has had, and of which nothing is left.
fn gone() -> Problem {
    Problem::new(
        Reason::PermissionDenied,
        "the write was refused before, or what it wrote has been deleted since",
    )
}

pub(super) fn dots(siblings: &Siblings<Write>) -> HashSet<Dot> {
    let versions = siblings.versions().iter();
    versions.map(|version| version.dot).collect()
}

fn bytes_of(key: &Key, write: &Write) -> u64 {
    write
        .value
        .as_deref()
        .map_or(0, |value| (key.as_str().len() + value.len()) as u64)
}

fn millis(at: OffsetDateTime) -> u64 {
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default()
}

/// When a version was written, by its writer's clock.
fn written_at(time: HybridTime) -> Option<OffsetDateTime> {
    moment(time.millis())
}
