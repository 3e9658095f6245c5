//! Reads, each of one commit.

use std::{ops::Bound, sync::Arc};

use authguardian_proto::{
    board::Key,
    common::v1::Position,
    crdt::{Version, Write},
    ids::BoardName,
};
use redb::AccessGuard;

use super::{
    Replica,
    board::BoardState,
    error::{Failed, Result},
    record::{Content, Found, Record},
    store::{Snapshot, key_row, read_key, rows_after, rows_of},
};

/// Most bytes of keys and values in a page, but for one entry that has more.
const MAX_BYTES: usize = 1024 * 1024;
/// Most rows that are looked at for a page: many may be of keys that are not there any more.
const MAX_ROWS: usize = 10_000;

/// Which keys are to be listed.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// Keys that begin so; empty: all.
    pub prefix: String,
    /// Those after this one; `None`: from the beginning.
    pub after: Option<Key>,
    /// Most of them.
    pub limit: usize,
}

/// Keys, and what is in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// In byte order of keys.
    pub entries: Vec<(Key, T)>,
    /// What comes next is after this; `None`: this is all.
    pub next: Option<Key>,
    /// As of when: a watch from here misses nothing.
    pub position: Position,
}

impl Replica {
    /// Reads a key; `None`: it is not there, or there is no replica of the board.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn get(&self, board: &BoardName, key: &Key) -> Result<Option<Found>, Failed> {
        let snapshot = self.snapshot();
        if snapshot.board(board).is_none() {
            return Ok(None);
        }
        let record = snapshot.record(board, key);
        let record = record.map_err(|error| self.failed(error))?;
        Ok(record.and_then(|record| record.found(self.now())))
    }

    /// As [`Replica::get`], with the control plane's position that the board had then;
    /// `None`: it was at none.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn get_as_of(
        &self,
        board: &BoardName,
        key: &Key,
    ) -> Result<(Option<Found>, Option<Position>), Failed> {
        let snapshot = self.snapshot();
        let Some(position) = snapshot.stands_at(board) else {
            return Ok((None, None));
        };
        let record = snapshot.record(board, key);
        let record = record.map_err(|error| self.failed(error))?;
        let found = record.and_then(|record| record.found(self.now()));
        Ok((found, Some(position)))
    }

    /// As [`Replica::list`], with the control plane's position that the board had then;
    /// `None`: it was at none.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn list_as_of(
        &self,
        board: &BoardName,
        range: &Range,
        keys_only: bool,
    ) -> Result<(Page<Found>, Option<Position>), Failed> {
        let (snapshot, now) = (self.snapshot(), self.now());
        let page = snapshot.found(board, range, keys_only, now);
        let page = page.map_err(|error| self.failed(error))?;
        Ok((page, snapshot.stands_at(board)))
    }

    /// All versions of a key, deletions among them, in the order of their dots.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn siblings(&self, board: &BoardName, key: &Key) -> Result<Vec<Version<Write>>, Failed> {
        let snapshot = self.snapshot();
        if snapshot.board(board).is_none() {
            return Ok(Vec::new());
        }
        let record = snapshot.record(board, key);
        let record = record.map_err(|error| self.failed(error))?;
        Ok(record.unwrap_or_default().siblings.versions().to_vec())
    }

    /// Lists keys of a prefix. `keys_only`: without their values.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn list(
        &self,
        board: &BoardName,
        range: &Range,
        keys_only: bool,
    ) -> Result<Page<Found>, Failed> {
        let (snapshot, now) = (self.snapshot(), self.now());
        let page = snapshot.found(board, range, keys_only, now);
        page.map_err(|error| self.failed(error))
    }

    /// Lists keys of a prefix that have more than one value, with all their versions.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn conflicts(
        &self,
        board: &BoardName,
        range: &Range,
    ) -> Result<Page<Vec<Version<Write>>>, Failed> {
        let (snapshot, now) = (self.snapshot(), self.now());
        let page = snapshot.page(board, range, true, |key, record| {
            let values = record.values(now).count();
            let bytes = key.as_str().len() + record.bytes();
            (values > 1).then(|| (record.siblings.versions().to_vec(), bytes))
        });
        page.map_err(|error| self.failed(error))
    }

    /// A board; `None`: there is no replica of it.
    pub fn board(&self, name: &BoardName) -> Option<Arc<BoardState>> {
        self.snapshot().board(name).cloned()
    }

    /// All boards that there are replicas of, by name.
    pub fn boards(&self) -> Vec<Arc<BoardState>> {
        let snapshot = self.snapshot();
        let boards = snapshot.state.boards.values();
        boards.filter(|board| !board.is_dropped).cloned().collect()
    }

    /// The replica's newest revision.
    pub fn position(&self) -> Position {
        self.snapshot().position()
    }
}

impl Snapshot {
    /// Where the control plane's board was, where all of that is here.
    fn stands_at(&self, board: &BoardName) -> Option<Position> {
        let board = self.board(board).filter(|board| board.is_ready());
        board.and_then(|board| board.position)
    }

    fn found(
        &self,
        board: &BoardName,
        range: &Range,
        keys_only: bool,
        now: u64,
    ) -> Result<Page<Found>> {
        self.page(board, range, false, |key, record| {
            let mut found = record.found(now)?;
            if keys_only {
                found.clear();
            }
            let bytes = key.as_str().len() + found.bytes();
            Some((found, bytes))
        })
    }

    /// One page of a board, or of its conflicts. `read` tells what a record is on the page, and
    /// its bytes; `None`: nothing.
    fn page<T>(
        &self,
        board: &BoardName,
        range: &Range,
        is_of_conflicts: bool,
        read: impl Fn(&Key, Record) -> Option<(T, usize)>,
    ) -> Result<Page<T>> {
        let mut page = Page {
            entries: Vec::new(),
            next: None,
            position: self.position(),
        };
        if self.board(board).is_none() || range.limit == 0 {
            return Ok(page);
        }
        let (mut bytes, mut last) = (0, None);
        for (number, row) in self.rows(board, range, is_of_conflicts)?.enumerate() {
            let (key, row) = row?;
            if !key.as_str().starts_with(&*range.prefix) {
                break;
            }
            if page.entries.len() >= range.limit || bytes >= MAX_BYTES || number >= MAX_ROWS {
                page.next = last;
                break;
            }
            let record = match row {
                Some(row) => Some(Record::decode(&key, row.value())?),
                None => self.record(board, &key)?,
            };
            last = Some(key.clone());
            if let Some((entry, more)) = record.and_then(|record| read(&key, record)) {
                if bytes > 0 && bytes + more > MAX_BYTES {
                    page.next = page.entries.last().map(|(key, _)| key.clone());
                    break;
                }
                bytes += more;
                page.entries.push((key, entry));
            }
        }
        Ok(page)
    }
}

/// Rows of keys, or of keys alone.
type Rows<'s> =
    Box<dyn Iterator<Item = Result<(Key, Option<AccessGuard<'s, &'static [u8]>>)>> + 's>;

impl Snapshot {
    fn rows(&self, board: &BoardName, range: &Range, is_of_conflicts: bool) -> Result<Rows<'_>> {
        let at = rows_of(board).len();
        let end = rows_after(board);
        let start = [rows_of(board).as_slice(), range.prefix.as_bytes()].concat();
        let after = range.after.as_ref().map(|key| key_row(board, key));
        let start = match &after {
            Some(after) if *after >= start => Bound::Excluded(after.as_slice()),
            _ => Bound::Included(start.as_slice()),
        };
        let bounds = (start, Bound::Excluded(end.as_slice()));
        if is_of_conflicts {
            let rows = self.conflicts.range::<&[u8]>(bounds)?;
            return Ok(Box::new(rows.map(move |row| {
                let (row, _) = row?;
                Ok((read_key(&row.value()[at..])?, None))
            })));
        }
        let rows = self.keys.range::<&[u8]>(bounds)?;
        Ok(Box::new(rows.map(move |row| {
            let (key, row) = row?;
            Ok((read_key(&key.value()[at..])?, Some(row)))
        })))
    }
}

impl Found {
    /// Leaves its value out.
    fn clear(&mut self) {
        match &mut self.content {
            Content::Eventual(value) => value.value = "".into(),
            Content::Session(entry) => entry.value.clear(),
        }
    }

    fn bytes(&self) -> usize {
        match &self.content {
            Content::Eventual(value) => value.value.len(),
            Content::Session(entry) => entry.value.len(),
        }
    }
}
