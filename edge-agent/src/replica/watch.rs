//! Watches: what was missed, and then each change as it is on disk.

use std::sync::Arc;

use authguardian_proto::{board::Key, common::v1::Position, ids::BoardName};
use tokio::sync::mpsc;

use super::{
    Replica,
    error::{Failed, Result, WatchError},
    record::{Content, Found, Record},
    store::{Snapshot, read_key, revision_row, rows_of},
    watchers::{Line, Watchers},
};

/// What is read of what was missed in one go: rows, and bytes of values.
const MAX_ROWS: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;

/// Which keys of a board are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// This one.
    Key(Key),
    /// Those that begin so; empty: all.
    Prefix(Box<str>),
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Which key.
    pub key: Key,
    /// What is in it; `None`: nothing any more.
    pub found: Option<Found>,
    /// Who did it; empty: not known.
    pub writer: Arc<str>,
    /// The replica's revision that did.
    pub revision: u64,
}

/// How a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was written.
    Put,
    /// It was deleted.
    Delete,
    /// It ended by itself.
    Expire,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// In the order of their revisions; empty: nothing but where the watch stands.
    pub changes: Vec<Arc<Change>>,
    /// All up to here was told.
    pub up_to: Position,
}

/// A watch of keys of a board.
pub struct Watch {
    replica: Replica,
    board: BoardName,
    filter: Filter,
    id: u64,
    line: Arc<Line>,
    receiver: mpsc::Receiver<News>,
    /// What was told.
    position: Position,
    /// What was missed is told up to here, and then what the channel has after it.
    missed_to: Option<u64>,
}

impl Filter {
    /// Whether a key is watched.
    pub fn matches(&self, key: &Key) -> bool {
        match self {
            Self::Key(one) => one == key,
            Self::Prefix(prefix) => key.as_str().starts_with(&**prefix),
        }
    }
}

impl Change {
    /// What a record says that was just put in place, or was at some time.
    pub(super) fn of(key: Key, record: &Record, found: Option<Found>) -> Self {
        let (kind, writer) = match &found {
            Some(Found { content, .. }) => match content {
                Content::Eventual(value) => (ChangeKind::Put, value.writer.clone()),
                Content::Session(entry) => (ChangeKind::Put, entry.writer.as_str().into()),
            },
            // the control plane has not said so yet
            None if record.has_value() => (ChangeKind::Expire, "".into()),
            None if record.has_expired => (ChangeKind::Expire, record.ended_by()),
            None => (ChangeKind::Delete, record.ended_by()),
        };
        Self {
            kind,
            key,
            found,
            writer,
            revision: record.revision,
        }
    }

    /// Bytes of its key and value.
    pub(super) fn bytes(&self) -> usize {
        let value = self.found.as_ref().map_or(0, |found| match &found.content {
            Content::Eventual(value) => value.value.len(),
            Content::Session(entry) => entry.value.len(),
        });
        self.key.as_str().len() + value
    }
}

impl Replica {
    /// Watches keys of a board, from now on or from what came after a position. The first
    /// message after what was missed tells where the watch stands, also where it has no
    /// changes; after that none comes without.
    ///
    /// # Errors
    /// [`WatchError::NoBoard`]; [`WatchError::Compacted`]; [`WatchError::Failed`].
    pub fn watch(
        &self,
        board: &BoardName,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Watch, WatchError> {
        // first the channel, then what is there: nothing falls between them
        let (sender, receiver) = mpsc::channel(Watchers::MAX_WAITING);
        let line = Arc::new(Line::default());
        let id = self.watchers().add(board, &filter, sender, line.clone());
        let snapshot = self.snapshot();
        let mut watch = Watch {
            replica: self.clone(),
            board: board.clone(),
            filter,
            id,
            line,
            receiver,
            position: snapshot.position(),
            missed_to: Some(snapshot.position().revision),
        };
        watch.check(&snapshot, after.unwrap_or(watch.position))?;
        watch.position = after.unwrap_or(watch.position);
        self.check_open()?;
        Ok(watch)
    }
}

impl Watch {
    /// What comes next, however long it takes. Nothing is lost where this is not waited
    /// for to the end.
    ///
    /// # Errors
    /// [`WatchError`]; the watch is over.
    pub async fn next(&mut self) -> Result<News, WatchError> {
        while let Some(up_to) = self.missed_to {
            let news = self.missed(up_to)?;
            if self.missed_to.is_none() || !news.changes.is_empty() {
                return Ok(news);
            }
            tokio::task::yield_now().await;
        }
        loop {
            let Some(mut news) = self.receiver.recv().await else {
                return Err(self.over());
            };
            self.line.took(&news);
            let told = self.position.revision;
            news.changes.retain(|change| change.revision > told);
            if news.up_to.revision > told {
                self.position = news.up_to;
            }
            if !news.changes.is_empty() {
                return Ok(news);
            }
        }
    }

    /// Where it stands: a watch that goes on after this misses nothing.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether all that came after a position can be told.
    fn check(&self, snapshot: &Snapshot, after: Position) -> Result<(), WatchError> {
        let Some(board) = snapshot.board(&self.board) else {
            return Err(WatchError::NoBoard(self.board.clone()));
        };
        let now = snapshot.position();
        let can_be_told = board.counts.floor..=now.revision;
        if after.epoch != now.epoch || !can_be_told.contains(&after.revision) {
            return Err(WatchError::Compacted);
        }
        Ok(())
    }

    /// Some of what was missed, in the order of revisions: of each key, what it is now.
    fn missed(&mut self, up_to: u64) -> Result<News, WatchError> {
        let snapshot = self.replica.snapshot();
        self.check(&snapshot, self.position)?;
        let now = self.replica.now();
        let found = match &self.filter {
            Filter::Key(key) => snapshot.missed_of(&self.board, key, self.position.revision, now),
            Filter::Prefix(_) => snapshot.missed(
                &self.board,
                &self.filter,
                (self.position.revision, up_to),
                now,
            ),
        };
        let (mut changes, next) = found.map_err(|error| self.replica.failed(error))?;
        // what changed later comes by the channel
        changes.retain(|change| change.revision <= up_to);
        self.position.revision = next.unwrap_or(up_to);
        if next.is_none() {
            self.missed_to = None;
        }
        Ok(News {
            changes: changes.into_iter().map(Arc::new).collect(),
            up_to: self.position,
        })
    }

    fn over(&self) -> WatchError {
        if self.line.is_slow() {
            return WatchError::Lagged;
        }
        match self.replica.snapshot().board(&self.board) {
            Some(_) => Failed::Closed.into(),
            None => WatchError::NoBoard(self.board.clone()),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.replica.watchers().remove(&self.board, self.id);
    }
}

impl Snapshot {
    /// Changes between two revisions; the last one that was looked at, where there is more.
    fn missed(
        &self,
        board: &BoardName,
        filter: &Filter,
        (after, up_to): (u64, u64),
        now: u64,
    ) -> Result<(Vec<Change>, Option<u64>)> {
        let (from, to) = (
            revision_row(board, after + 1),
            revision_row(board, up_to + 1),
        );
        let (mut changes, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        let at = rows_of(board).len();
        for (number, row) in self
            .revisions
            .range(from.as_slice()..to.as_slice())?
            .enumerate()
        {
            if number >= MAX_ROWS || bytes >= MAX_BYTES {
                return Ok((changes, Some(looked_at)));
            }
            let (row, key) = row?;
            let revision = row.value()[at..].first_chunk().copied();
            looked_at = revision.map_or(looked_at, u64::from_be_bytes);
            let key = read_key(key.value())?;
            if !filter.matches(&key) {
                continue;
            }
            let Some(record) = self.record(board, &key)? else {
                continue;
            };
            let found = record.found(now);
            let change = Change::of(key, &record, found);
            bytes += change.bytes();
            changes.push(change);
        }
        Ok((changes, None))
    }

    /// The same of one key.
    fn missed_of(
        &self,
        board: &BoardName,
        key: &Key,
        after: u64,
        now: u64,
    ) -> Result<(Vec<Change>, Option<u64>)> {
        let record = self.record(board, key)?;
        let record = record.filter(|record| record.revision > after);
        let change = record.map(|record| {
            let found = record.found(now);
            Change::of(key.clone(), &record, found)
        });
        Ok((change.into_iter().collect(), None))
    }
}
