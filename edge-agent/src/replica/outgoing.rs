//! Writes that the control plane has not had: kept in order, handed over, and put back
//! where it has lost them.

use std::collections::BTreeMap;

use authguardian_proto::{
    blackboard::v1 as pb,
    board::Key,
    crdt::{Actor, Dot, Version},
    ids::BoardName,
};
use prost::Message;
use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    change::{Place, Writing},
    error::{Result, corrupted},
    record::Record,
    store::{Snapshot, new_epoch, read_key},
};

/// About how many bytes of writes are handed over at once.
const MAX_BYTES: usize = 1024 * 1024;

/// A write that is to be handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct OutgoingWrite {
    /// Its place among those that wait.
    pub sequence: u64,
    /// As which it was written.
    pub incarnation: u32,
    /// It.
    pub pushed: pb::Pushed,
}

/// A row: incarnation and counter, then the message.
struct Row<'r> {
    incarnation: u32,
    counter: u64,
    message: &'r [u8],
}

impl<'r> Row<'r> {
    fn read(row: &'r [u8]) -> Result<Self> {
        let wrong = || corrupted("a write that is to be handed over");
        let (incarnation, row) = row.split_first_chunk().ok_or_else(wrong)?;
        let (counter, message) = row.split_first_chunk().ok_or_else(wrong)?;
        Ok(Self {
            incarnation: u32::from_be_bytes(*incarnation),
            counter: u64::from_be_bytes(*counter),
            message,
        })
    }

    fn write(dot: Dot, pushed: &pb::Pushed) -> Vec<u8> {
        let mut row = Vec::with_capacity(12 + pushed.encoded_len());
        row.extend(dot.actor.incarnation.to_be_bytes());
        row.extend(dot.counter.to_be_bytes());
        row.extend(pushed.encode_to_vec());
        row
    }
}

impl Snapshot {
    /// How many writes wait.
    pub(super) fn waiting(&self) -> Result<u64> {
        Ok(self.outgoing.len()?)
    }

    /// The oldest that wait, all of one incarnation.
    pub(super) fn outgoing(&self, limit: usize) -> Result<Vec<OutgoingWrite>> {
        let (mut writes, mut bytes) = (Vec::<OutgoingWrite>::new(), 0);
        for row in ReadableTable::iter(&self.outgoing)?.take(limit) {
            let (sequence, row) = row?;
            bytes += row.value().len();
            let row = Row::read(row.value())?;
            let first = writes.first().map(|first| first.incarnation);
            if first.is_some_and(|first| first != row.incarnation || bytes > MAX_BYTES) {
                break;
            }
            let pushed = pb::Pushed::decode(row.message);
            writes.push(OutgoingWrite {
                sequence: sequence.value(),
                incarnation: row.incarnation,
                pushed: pushed.map_err(|_| corrupted("a write that is to be handed over"))?,
            });
        }
        Ok(writes)
    }
}

impl Writing<'_> {
    /// Appends a write.
    pub(super) fn append(&mut self, dot: Dot, pushed: &pb::Pushed) -> Result<()> {
        self.state.sequence += 1;
        self.insert(self.state.sequence, dot, pushed)
    }

    fn insert(&mut self, sequence: u64, dot: Dot, pushed: &pb::Pushed) -> Result<()> {
        let row = Row::write(dot, pushed);
        self.touch(row.len());
        self.state.payload += row.len() as u64;
        self.outgoing.insert(sequence, row.as_slice())?;
        Ok(())
    }

    /// The control plane has had all writes of an incarnation up to a counter, and has
    /// refused some of them.
    pub(super) fn handed_over(
        &mut self,
        incarnation: u32,
        counter: u64,
        refused: Vec<pb::RefusedWrite>,
    ) -> Result<()> {
        self.drop_handed(incarnation, counter)?;
        let life = self.state.lives.of(incarnation);
        life.handed = life.handed.max(counter);
        life.written = life.written.max(counter);
        self.state.lives.tidy();
        for refused in refused {
            self.undo(incarnation, refused)?;
        }
        Ok(())
    }

    fn drop_handed(&mut self, incarnation: u32, counter: u64) -> Result<()> {
        let mut handed = Vec::new();
        for row in self.outgoing.iter()? {
            let (sequence, row) = row?;
            let bytes = row.value().len();
            let row = Row::read(row.value())?;
            if row.incarnation != incarnation {
                continue;
            }
            if row.counter > counter {
                break;
            }
            handed.push((sequence.value(), bytes));
        }
        for (sequence, bytes) in handed {
            self.outgoing.remove(sequence)?;
            self.state.payload = self.state.payload.saturating_sub(bytes as u64);
        }
        self.touch(0);
        Ok(())
    }

    /// Takes back a write that the control plane has refused. What it has instead is
    /// merged, not put in place: what has come of the key since the answer was given stays.
    fn undo(&mut self, incarnation: u32, refused: pb::RefusedWrite) -> Result<()> {
        let name = refused.board.parse::<BoardName>().ok();
        let board = name.and_then(|name| self.board(&name));
        let (Some(board), Ok(key)) = (board, refused.key.parse()) else {
            return Ok(());
        };
        let place = Place::new(&board.name, key);
        let old = self.record(&place)?;
        let mut new = old.clone();
        let actor = Actor {
            machine: self.state.lives.machine,
            incarnation,
        };
        let dot = Dot {
            actor,
            counter: refused.counter,
        };
        new.keep(|one| one != dot);
        for version in refused.siblings.unwrap_or_default().versions {
            let revision = version.revision;
            match Version::from_proto(version) {
                Ok((key, version)) if key == place.key => {
                    self.hear(version.time);
                    new.hear(version, revision);
                }
                _ => {
                    let (board, key) = (&place.board, &place.key);
                    tracing::warn!(%board, %key, "a version is left out");
                }
            }
        }
        if !new.says_the_same(&old) {
            self.put(&place, &old, new)?;
        }
        Ok(())
    }

    /// The control plane has told as which incarnation the replica writes from now on, and
    /// the highest counter of it that it has had.
    pub(super) fn confirm(&mut self, incarnation: u32, received: u64) -> Result<()> {
        self.must_last();
        let lives = &mut self.state.lives;
        if lives.confirmed != 0 && lives.confirmed != incarnation {
            // the disk was put back: positions that were told since then mean something else now
            self.state.epoch = new_epoch(self.ambient);
        }
        lives.confirmed = incarnation;
        lives.current = Some(incarnation);
        let life = lives.of(incarnation);
        life.written = life.written.max(received);
        let lost = received.saturating_add(1)..=life.handed;
        life.handed = received;
        lives.tidy();
        self.touch(0);
        // what it has had is handed over again all the same: the answer may have been lost that
        // some of it was refused
        if lost.is_empty() {
            return Ok(());
        }
        let actor = Actor {
            machine: self.state.lives.machine,
            incarnation,
        };
        self.put_back(actor, &lost)
    }

    /// Writes that the control plane has lost are handed over again, those of them that are
    /// still in their keys, before all that wait.
    fn put_back(&mut self, actor: Actor, lost: &std::ops::RangeInclusive<u64>) -> Result<()> {
        let is_lost = |dot: Dot| dot.actor == actor && lost.contains(&dot.counter);
        let mut places = BTreeMap::new();
        for row in self.keys.iter()? {
            let (at, row) = row?;
            let (name, key) = split(at.value())?;
            let record = Record::decode(&key, row.value())?;
            for version in record.siblings.versions() {
                if is_lost(version.dot) {
                    places.insert(version.dot, Place::new(&name, key.clone()));
                }
            }
        }
        let first = self.outgoing.first()?.map(|(sequence, _)| sequence.value());
        let first = first.unwrap_or(self.state.sequence + 1);
        let first = first.saturating_sub(places.len() as u64);
        for (sequence, (dot, place)) in (first..).zip(places) {
            let record = self.record(&place)?;
            let mut versions = record.siblings.versions().iter();
            let version = versions.find(|version| version.dot == dot);
            let pushed = pb::Pushed {
                board: place.board.to_string(),
                version: version.map(|version| version.to_proto(&place.key, 0)),
            };
            self.insert(sequence, dot, &pushed)?;
        }
        Ok(())
    }
}

fn split(row: &[u8]) -> Result<(BoardName, Key)> {
    let wrong = || corrupted("a board and a key");
    let at = row.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
    let (board, key) = row.split_at(at);
    let board = str::from_utf8(board)
        .ok()
        .and_then(|name| name.parse().ok());
    Ok((board.ok_or_else(wrong)?, read_key(&key[1..])?))
}
