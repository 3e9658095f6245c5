//! What a replica knows of a board.

use std::sync::Arc;

use authguardian_proto::{
    blackboard::v1 as pb, board::Level, common::v1::Position, ids::BoardName,
};

use super::{
    error::{Result, WriteError, corrupted},
    record::Weight,
};

/// A board that there is a replica of.
#[derive(Debug, Clone, PartialEq)]
pub struct BoardState {
    /// Its name.
    pub name: BoardName,
    /// As the control plane told them last.
    pub terms: Arc<pb::Board>,
    /// What it promises.
    pub level: Level,
    /// Up to where the replica has it; `None`: not all of it has come yet.
    pub position: Option<Position>,
    /// What is in it.
    pub counts: Counts,
    /// Counts how often all of it was to be forgotten; records say of which they are.
    pub(super) generation: u64,
    /// Whether it is being pulled as a whole.
    pub(super) is_resetting: bool,
    /// Of a session board: whether it is in the middle of what has come, and so at no
    /// position.
    pub(super) is_partial: bool,
    /// Whether it is being removed.
    pub(super) is_dropped: bool,
}

/// What is in a board, as the replica has it. What has ended by itself counts until the
/// control plane says so.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Counts {
    /// Keys that have a value.
    #[prost(uint64, tag = "1")]
    pub keys: u64,
    /// Bytes of those keys and of the values that readers are told.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// Keys of which nothing is left but that watches are to be told of their end.
    #[prost(uint64, tag = "3")]
    pub(super) gone: u64,
    /// A watch can begin after it, or later.
    #[prost(uint64, tag = "4")]
    pub(super) floor: u64,
}

/// A board's row.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredBoard {
    #[prost(message, optional, tag = "1")]
    terms: Option<pb::Board>,
    #[prost(message, optional, tag = "2")]
    position: Option<Position>,
    #[prost(uint64, tag = "3")]
    generation: u64,
    #[prost(bool, tag = "4")]
    is_resetting: bool,
    #[prost(bool, tag = "5")]
    is_dropped: bool,
    #[prost(bool, tag = "6")]
    is_partial: bool,
}

impl BoardState {
    /// Whether all of it is there, as of its position.
    pub fn is_ready(&self) -> bool {
        self.is_resumable() && !self.is_partial
    }

    /// Whether all of it up to its position is there, and maybe more.
    pub fn is_resumable(&self) -> bool {
        !self.is_resetting && self.position.is_some()
    }

    /// A board that nothing is known of but its terms.
    pub(super) fn new(name: BoardName, terms: pb::Board, level: Level) -> Self {
        Self {
            name,
            terms: Arc::new(terms),
            level,
            position: None,
            counts: Counts::default(),
            generation: 1,
            is_resetting: false,
            is_partial: false,
            is_dropped: false,
        }
    }

    /// Whether what a key weighs may become this: what makes a full board fuller may not,
    /// what empties it may.
    pub(super) fn check_quota(&self, was: Weight, is: Weight) -> Result<(), WriteError> {
        let after = self.counts.with(was, is);
        let quota = |most, what| WriteError::Quota {
            board: self.name.clone(),
            most,
            what,
        };
        if after.keys > self.terms.max_keys && after.keys > self.counts.keys {
            return Err(quota(self.terms.max_keys, "keys"));
        }
        if after.bytes > self.terms.max_bytes && after.bytes > self.counts.bytes {
            return Err(quota(self.terms.max_bytes, "bytes"));
        }
        Ok(())
    }

    pub(super) fn to_row(&self) -> StoredBoard {
        StoredBoard {
            terms: Some((*self.terms).clone()),
            position: self.position,
            generation: self.generation,
            is_resetting: self.is_resetting,
            is_dropped: self.is_dropped,
            is_partial: self.is_partial,
        }
    }

    pub(super) fn from_rows(name: &str, row: StoredBoard, counts: Counts) -> Result<Self> {
        let name: BoardName = name.parse().map_err(|_| corrupted("a board's name"))?;
        let terms = row.terms.ok_or_else(|| corrupted("a board's terms"))?;
        let level = Level::from_proto(terms.level).ok_or_else(|| corrupted("a board's level"))?;
        Ok(Self {
            position: row.position,
            counts,
            generation: row.generation,
            is_resetting: row.is_resetting,
            is_dropped: row.is_dropped,
            is_partial: row.is_partial,
            ..Self::new(name, terms, level)
        })
    }
}

impl Counts {
    /// When a key that weighed one thing weighs another.
    pub(super) fn with(self, was: Weight, is: Weight) -> Self {
        Self {
            keys: (self.keys + is.keys).saturating_sub(was.keys),
            bytes: (self.bytes + is.bytes).saturating_sub(was.bytes),
            ..self
        }
    }
}
