//! Writes of this machine's agents.

use std::sync::Arc;

use authguardian_proto::{
    blackboard::v1 as pb,
    board::{Key, Level, MAX_VALUE_BYTES},
    common::v1::Position,
    crdt::{Dot, VectorClock, Write},
    ids::BoardName,
};

use super::{
    change::{Place, Writing},
    error::{Failed, WriteError},
    record::{Found, Record},
};

/// A value that is to be put into a key of an eventual board.
#[derive(Debug, Clone)]
pub struct Put {
    /// On which board.
    pub board: BoardName,
    /// Which key.
    pub key: Key,
    /// JSON text.
    pub value: Arc<str>,
    /// Who writes: `agent:<id>` or `admin:adm_…`.
    pub writer: Arc<str>,
    /// Seconds until it ends by itself; `None`: as the board says.
    pub ttl_seconds: Option<u64>,
}

/// A key of an eventual board that is to be deleted.
#[derive(Debug, Clone)]
pub struct Delete {
    /// On which board.
    pub board: BoardName,
    /// Which key.
    pub key: Key,
    /// Who deletes, as [`Put::writer`].
    pub writer: Arc<str>,
}

/// A write that is on disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Acknowledged {
    /// Which write it is.
    pub dot: Dot,
    /// The replica's revision of it.
    pub position: Position,
    /// The replica's revision of what was there before; 0: nothing was.
    pub previous_revision: u64,
    /// All that has been seen of the key, this write included.
    pub clock: VectorClock,
    /// How many values it has replaced.
    pub replaced: usize,
    /// When it ends by itself, in milliseconds since 1970; `None`: never.
    pub expires_at_millis: Option<u64>,
}

/// Either.
#[derive(Debug)]
pub(super) enum LocalWrite {
    Put(Put),
    Delete(Delete),
}

impl LocalWrite {
    /// Bytes that it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.value.len() + put.key.as_str().len(),
            Self::Delete(delete) => delete.key.as_str().len(),
        }
    }
}

impl Writing<'_> {
    /// Does a write. `full`: the bound of the file, where it has reached it. `None`: there
    /// was nothing to delete.
    ///
    /// # Errors
    /// Outer: the transaction cannot go on. Inner: the write is refused, and nothing was done.
    pub(super) fn write(
        &mut self,
        write: LocalWrite,
        full: Option<u64>,
    ) -> Result<Result<Option<Acknowledged>, WriteError>, redb::Error> {
        match write {
            LocalWrite::Put(put) => self.local_put(put, full).map(|done| done.map(Some)),
            LocalWrite::Delete(delete) => self.local_delete(delete),
        }
    }

    fn local_put(
        &mut self,
        put: Put,
        full: Option<u64>,
    ) -> Result<Result<Acknowledged, WriteError>, redb::Error> {
        let board = match self.board(&put.board) {
            Some(board) if board.level == Level::Eventual => board,
            other => return Ok(Err(no_board(put.board, other.is_some()))),
        };
        if put.value.is_empty() || put.value.len() > MAX_VALUE_BYTES {
            let max_bytes = MAX_VALUE_BYTES;
            return Ok(Err(WriteError::TooLarge { max_bytes }));
        }
        if let Some(max_bytes) = full {
            return Ok(Err(WriteError::Full { max_bytes }));
        }
        let usual = Some(board.terms.default_ttl_seconds).filter(|seconds| *seconds > 0);
        let ttl = put.ttl_seconds.or(usual);
        let content = Write {
            value: Some(put.value),
            writer: put.writer,
            expires_at_millis: ttl.map(|ttl| self.now.saturating_add(ttl.saturating_mul(1000))),
        };
        let place = Place::new(&put.board, put.key);
        let old = self.record(&place)?;
        let weight = Record::weight_of(&place.key, content.value.as_deref());
        if let Err(refused) = board.check_quota(old.weight(&place.key), weight) {
            return Ok(Err(refused));
        }
        self.local_write(&place, &old, content, board.generation)
            .map(Ok)
    }

    fn local_delete(
        &mut self,
        delete: Delete,
    ) -> Result<Result<Option<Acknowledged>, WriteError>, redb::Error> {
        let board = match self.board(&delete.board) {
            Some(board) if board.level == Level::Eventual => board,
            other => return Ok(Err(no_board(delete.board, other.is_some()))),
        };
        let place = Place::new(&delete.board, delete.key);
        let old = self.record(&place)?;
        if old.values(self.now).next().is_none() {
            return Ok(Ok(None));
        }
        let content = Write {
            value: None,
            writer: delete.writer,
            expires_at_millis: None,
        };
        let done = self.local_write(&place, &old, content, board.generation)?;
        Ok(Ok(Some(done)))
    }

    fn local_write(
        &mut self,
        place: &Place,
        old: &Record,
        content: Write,
        generation: u64,
    ) -> Result<Acknowledged, redb::Error> {
        let dot = self.state.lives.next(self.ambient);
        let expires_at_millis = content.expires_at_millis;
        let mut new = Record {
            siblings: old.siblings.clone(),
            generation,
            ..Record::default()
        };
        new.siblings.write(dot, self.tick(), content);
        let version = new.siblings.versions().first();
        let version = version.map(|version| version.to_proto(&place.key, 0));
        let pushed = pb::Pushed {
            board: place.board.to_string(),
            version,
        };
        self.append(dot, &pushed)?;
        let revision = self.put(place, old, new.clone())?;
        Ok(Acknowledged {
            dot,
            position: Position {
                epoch: self.state.epoch,
                revision,
            },
            previous_revision: old
                .found(self.now)
                .map_or(0, |Found { revision, .. }| revision),
            clock: new.siblings.clock(),
            replaced: old.values(self.now).count(),
            expires_at_millis,
        })
    }
}

fn no_board(board: BoardName, is_there: bool) -> WriteError {
    if is_there {
        WriteError::NotEventual(board)
    } else {
        WriteError::NoBoard(board)
    }
}

impl From<redb::Error> for WriteError {
    fn from(error: redb::Error) -> Self {
        Self::Failed(Failed::from(error))
    }
}
