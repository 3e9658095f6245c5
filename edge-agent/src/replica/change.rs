//! One transaction that writes: what happens to keys, and to all that is kept of them.

use std::{collections::BTreeMap, sync::Arc};

use authguardian_proto::{
    board::Key,
    crdt::{HybridClock, HybridTime},
    ids::BoardName,
};
use prost::Message;
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    board::BoardState,
    error::Result,
    record::{Ended, Record},
    store::{
        CONFLICTS, ENDED, KEYS, META_ROW, OUTGOING, REVISIONS, STATE, State, board_row, counts_row,
        key_row, read_key, revision_row, rows_of,
    },
    watch::Change,
};
use crate::clock::Ambient;

/// Most keys of a board that are gone and yet kept, for watches that go on after a break.
pub(super) const MAX_GONE: u64 = 4_096;

/// What a row costs beside its bytes, about: it stands in more than one table.
const ROW: u64 = 64;

const TOMBSTONE: u8 = b't';
const GONE: u8 = b'g';

/// A key of a board, and its row.
pub(super) struct Place {
    pub(super) board: BoardName,
    pub(super) key: Key,
    pub(super) row: Vec<u8>,
}

impl Place {
    pub(super) fn new(board: &BoardName, key: Key) -> Self {
        Self {
            row: key_row(board, &key),
            board: board.clone(),
            key,
        }
    }
}

/// A transaction that is being made.
pub(super) struct Writing<'t> {
    pub(super) keys: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) revisions: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) outgoing: Table<'t, u64, &'static [u8]>,
    pub(super) conflicts: Table<'t, &'static [u8], ()>,
    pub(super) ended: Table<'t, &'static [u8], ()>,
    table: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) state: State,
    pub(super) ambient: &'t Ambient,
    /// Milliseconds since 1970.
    pub(super) now: u64,
    clock: HybridClock,
    /// What watches are to be told.
    told: Vec<(BoardName, Arc<Change>)>,
    /// Boards that are here no more.
    pub(super) dropped: Vec<BoardName>,
    /// Boards of which something has changed; whether more than their counts has.
    dirty: BTreeMap<BoardName, bool>,
    /// About how many rows were touched, a large one counting for many.
    pub(super) work: usize,
    has_changed: bool,
    is_lasting: bool,
}

/// What a transaction has made, to be committed.
pub(super) struct Made {
    pub(super) state: State,
    pub(super) told: Vec<(BoardName, Arc<Change>)>,
    pub(super) dropped: Vec<BoardName>,
    /// Whether there is anything to commit.
    pub(super) has_changed: bool,
    /// Whether it has to be on disk. All else the control plane knows: after a crash it is
    /// told again.
    pub(super) is_lasting: bool,
}

impl<'t> Writing<'t> {
    pub(super) fn begin(
        transaction: &'t WriteTransaction,
        state: State,
        ambient: &'t Ambient,
    ) -> Result<Self> {
        let now = ambient.clock.now().unix_timestamp_nanos() / 1_000_000;
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            revisions: transaction.open_table(REVISIONS)?,
            outgoing: transaction.open_table(OUTGOING)?,
            conflicts: transaction.open_table(CONFLICTS)?,
            ended: transaction.open_table(ENDED)?,
            table: transaction.open_table(STATE)?,
            clock: HybridClock::after(HybridTime::from_u64(state.time)),
            state,
            ambient,
            now: u64::try_from(now).unwrap_or_default(),
            told: Vec::new(),
            dropped: Vec::new(),
            dirty: BTreeMap::new(),
            work: 0,
            has_changed: false,
            is_lasting: false,
        })
    }

    /// A board that is not being removed.
    pub(super) fn board(&self, name: &BoardName) -> Option<Arc<BoardState>> {
        let board = self.state.boards.get(name);
        board.filter(|board| !board.is_dropped).cloned()
    }

    /// Changes what is known of a board.
    pub(super) fn change_board(&mut self, board: BoardState) {
        self.dirty.insert(board.name.clone(), true);
        Arc::make_mut(&mut self.state.boards).insert(board.name.clone(), Arc::new(board));
    }

    /// What is done in this transaction must be on disk before anybody is told of it: a
    /// revision of the replica, which readers go on from, or who it is, or what may be here.
    pub(super) fn must_last(&mut self) {
        self.is_lasting = true;
    }

    /// Forgets a board, of which there are no rows any more.
    pub(super) fn forget_board(&mut self, name: &BoardName) {
        self.must_last();
        self.dirty.insert(name.clone(), true);
        Arc::make_mut(&mut self.state.boards).remove(name);
    }

    /// The moment of a write.
    pub(super) fn tick(&mut self) -> HybridTime {
        self.clock.tick(self.now)
    }

    /// Hears of the moment of somebody else's write.
    pub(super) fn hear(&mut self, time: HybridTime) {
        self.clock.hear(time, self.now);
    }

    /// What is known of a key.
    pub(super) fn record(&self, place: &Place) -> Result<Record> {
        let row = self.keys.get(place.row.as_slice())?;
        row.map_or(Ok(Record::default()), |row| {
            Record::decode(&place.key, row.value())
        })
    }

    /// Puts a record in another's place, as a new revision of the replica. Returns that.
    pub(super) fn put(&mut self, place: &Place, old: &Record, mut new: Record) -> Result<u64> {
        self.must_last();
        self.state.head += 1;
        new.revision = self.state.head;
        let was_there = old.has_value();
        let found = new.found(self.now);
        new.has_expired = found.is_none() && was_there && new.comes_of_expiry(old, self.now);
        self.unmark_revision(place, old)?;
        let row = revision_row(&place.board, new.revision);
        self.revisions
            .insert(row.as_slice(), place.key.as_str().as_bytes())?;
        self.replace(place, old, &new)?;
        if found.is_some() || was_there {
            let change = Change::of(place.key.clone(), &new, found);
            self.told.push((place.board.clone(), Arc::new(change)));
        }
        Ok(new.revision)
    }

    /// Puts a record in the place of one that says the same.
    pub(super) fn replace(&mut self, place: &Place, old: &Record, new: &Record) -> Result<()> {
        let row = new.encode(&place.key);
        let payload = Self::payload(place.row.len(), row.len());
        self.touch(row.len());
        let before = self
            .keys
            .insert(place.row.as_slice(), row.as_slice())?
            .map(|before| before.value().len());
        let before = before.map_or(0, |before| Self::payload(place.row.len(), before));
        self.state.payload = (self.state.payload + payload).saturating_sub(before);
        self.mark(place, old, new)
    }

    /// What a key's row counts.
    pub(super) fn payload(at: usize, row: usize) -> u64 {
        (at + row) as u64 + ROW
    }

    /// Leaves nothing of a key. Watches that are to be told all since before its last
    /// revision can no longer be.
    pub(super) fn forget(&mut self, place: &Place, old: &Record) -> Result<()> {
        self.must_last();
        self.touch(0);
        let before = self
            .keys
            .remove(place.row.as_slice())?
            .map(|before| before.value().len());
        let before = before.map_or(0, |before| Self::payload(place.row.len(), before));
        self.state.payload = self.state.payload.saturating_sub(before);
        self.unmark_revision(place, old)?;
        self.mark(place, old, &Record::default())?;
        self.change_counts(&place.board, |board| {
            board.counts.floor = board.counts.floor.max(old.revision);
        });
        Ok(())
    }

    /// Leaves nothing of a key that had a value. Only watches that are open are told.
    pub(super) fn vanish(&mut self, place: &Place, old: &Record) -> Result<()> {
        self.state.head += 1;
        let mut gone = Record {
            revision: self.state.head,
            ..Record::default()
        };
        gone.has_expired = gone.comes_of_expiry(old, self.now);
        let change = Change::of(place.key.clone(), &gone, None);
        self.told.push((place.board.clone(), Arc::new(change)));
        self.forget(place, old)?;
        self.change_counts(&place.board, |board| board.counts.floor = gone.revision);
        Ok(())
    }

    fn unmark_revision(&mut self, place: &Place, old: &Record) -> Result<()> {
        if old.revision > 0 {
            let row = revision_row(&place.board, old.revision);
            self.revisions.remove(row.as_slice())?;
        }
        Ok(())
    }

    /// Keeps what is kept of a key beside its record.
    fn mark(&mut self, place: &Place, old: &Record, new: &Record) -> Result<()> {
        match (old.siblings.values() > 1, new.siblings.values() > 1) {
            (false, true) => drop(self.conflicts.insert(place.row.as_slice(), ())?),
            (true, false) => drop(self.conflicts.remove(place.row.as_slice())?),
            _ => {}
        }
        let (was, is) = (old.ended(), new.ended());
        if was != is {
            if let Some(was) = was {
                let row = ended_row(&place.board, was, place.key.as_str());
                self.ended.remove(row.as_slice())?;
            }
            if let Some(is) = is {
                let row = ended_row(&place.board, is, place.key.as_str());
                self.ended.insert(row.as_slice(), ())?;
            }
        }
        let gone = |ended| u64::from(matches!(ended, Some(Ended::Gone(_))));
        let (was, is) = (gone(was), gone(is));
        let (lighter, heavier) = (old.weight(&place.key), new.weight(&place.key));
        if (was, lighter) != (is, heavier) {
            self.change_counts(&place.board, |board| {
                board.counts = board.counts.with(lighter, heavier);
                board.counts.gone = (board.counts.gone + is).saturating_sub(was);
            });
        }
        Ok(())
    }

    fn change_counts(&mut self, name: &BoardName, change: impl FnOnce(&mut BoardState)) {
        if let Some(board) = Arc::make_mut(&mut self.state.boards).get_mut(name) {
            change(Arc::make_mut(board));
            self.dirty.entry(name.clone()).or_default();
        }
    }

    /// Counts work that was done, for what is done in bounded steps.
    pub(super) fn touch(&mut self, bytes: usize) {
        self.has_changed = true;
        self.work += 1 + bytes / 1024;
    }

    /// The first keys of a board that ended up to a revision of the kind.
    pub(super) fn ended(&self, board: &BoardName, up_to: Ended, most: usize) -> Result<Vec<Key>> {
        let (kind, revision) = kind(up_to);
        let start = [rows_of(board).as_slice(), &[kind]].concat();
        let mut keys = Vec::new();
        for row in self.ended.range(start.as_slice()..)?.take(most) {
            let (row, _) = row?;
            let Some(rest) = row.value().strip_prefix(start.as_slice()) else {
                break;
            };
            let Some((at, key)) = rest.split_first_chunk() else {
                break;
            };
            if u64::from_be_bytes(*at) > revision {
                break;
            }
            keys.push(read_key(key)?);
        }
        Ok(keys)
    }

    /// Writes what is known beside keys.
    pub(super) fn finish(mut self) -> Result<Made> {
        self.prune()?;
        self.state.time = self.clock.last().as_u64();
        for (name, is_whole) in std::mem::take(&mut self.dirty) {
            self.has_changed = true;
            let (board, counts) = (board_row(&name), counts_row(&name));
            if let Some(state) = self.state.boards.get(&name) {
                if is_whole {
                    let row = state.to_row().encode_to_vec();
                    self.table.insert(board.as_slice(), row.as_slice())?;
                }
                let row = state.counts.encode_to_vec();
                self.table.insert(counts.as_slice(), row.as_slice())?;
            } else {
                self.table.remove(board.as_slice())?;
                self.table.remove(counts.as_slice())?;
            }
        }
        if self.has_changed {
            let row = self.state.encode();
            self.table.insert(META_ROW, row.as_slice())?;
        }
        Ok(Made {
            state: self.state,
            told: self.told,
            dropped: self.dropped,
            has_changed: self.has_changed,
            is_lasting: self.is_lasting,
        })
    }

    /// Forgets what is gone the longest where there is too much of it.
    fn prune(&mut self) -> Result<()> {
        let dirty: Vec<_> = self.dirty.keys().cloned().collect();
        for name in dirty {
            let Some(board) = self.board(&name) else {
                continue;
            };
            let most = board.counts.gone.saturating_sub(MAX_GONE);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            if most == 0 {
                continue;
            }
            for key in self.ended(&name, Ended::Gone(u64::MAX), most)? {
                let place = Place::new(&name, key);
                let old = self.record(&place)?;
                self.forget(&place, &old)?;
            }
        }
        Ok(())
    }
}

fn kind(ended: Ended) -> (u8, u64) {
    match ended {
        Ended::Tombstone(revision) => (TOMBSTONE, revision),
        Ended::Gone(revision) => (GONE, revision),
    }
}

fn ended_row(board: &BoardName, ended: Ended, key: &str) -> Vec<u8> {
    let (kind, revision) = kind(ended);
    [
        rows_of(board).as_slice(),
        &[kind],
        &revision.to_be_bytes(),
        key.as_bytes(),
    ]
    .concat()
}
