//! Batches that are closed, until they stand in the log.

use std::{collections::VecDeque, io, sync::Arc};

use super::{batch::Batch, files::Files};

/// So many bytes of files may wait; until there are fewer, calls that do not fit into the
/// last batch are counted together.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What a file takes at least.
const BLOCK: u64 = 4096;

/// So many batches may wait that are not on disk for good.
const MAX_IN_MEMORY: usize = 8;

/// A file is written anew where it has grown to so many times what it says.
const GROWTH: u64 = 2;

/// Batches that are closed, the oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// What all of them take on disk.
    bytes: u64,
    /// How many are not on disk for good.
    in_memory: usize,
    /// What was read of the first.
    at_hand: Option<Arc<Batch>>,
    pub(super) max_bytes: u64,
}

/// One that is closed.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) sequence: u64,
    /// Whether a process before this one has written it.
    pub(super) is_inherited: bool,
    pub(super) place: Place,
}

/// Where it is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On disk for good, so many bytes.
    Disk(u64),
    /// Here; and in a file that may not last, where there is a length.
    Memory(Arc<Batch>, Option<u64>),
}

impl Place {
    /// What it takes on disk, or will.
    fn bytes(&self) -> u64 {
        match self {
            Self::Disk(bytes) | Self::Memory(_, Some(bytes)) => (*bytes).max(BLOCK),
            Self::Memory(_, None) => BLOCK,
        }
    }

    fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(..))
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            in_memory: 0,
            at_hand: None,
            max_bytes: MAX_BYTES,
        }
    }
}

impl Queue {
    pub(super) fn first(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.place.bytes();
        self.in_memory += usize::from(waiting.place.is_memory());
        self.waiting.push_back(waiting);
    }

    /// The first is not waited for any more.
    pub(super) fn pop(&mut self) {
        self.at_hand = None;
        if let Some(first) = self.waiting.pop_front() {
            self.bytes -= first.place.bytes();
            self.in_memory -= usize::from(first.place.is_memory());
        }
    }

    /// Whether another one may wait.
    pub(super) fn has_room(&self) -> bool {
        self.in_memory < MAX_IN_MEMORY && self.bytes < self.max_bytes
    }

    /// What was read of the first, if it was.
    pub(super) fn at_hand(&self) -> Option<&Arc<Batch>> {
        self.at_hand.as_ref()
    }

    /// The first was read.
    pub(super) fn set_at_hand(&mut self, batch: Arc<Batch>) {
        self.at_hand = Some(batch);
    }

    /// Those that are not on disk for good.
    pub(super) fn in_memory(&self) -> impl Iterator<Item = (Arc<Batch>, Option<u64>)> {
        self.waiting
            .iter()
            .filter_map(|waiting| match &waiting.place {
                Place::Disk(_) => None,
                Place::Memory(batch, written) => Some((batch.clone(), *written)),
            })
    }

    /// Those that this process has closed.
    pub(super) fn own(&self) -> impl Iterator<Item = (u64, Place)> {
        let own = self.waiting.iter().filter(|waiting| !waiting.is_inherited);
        own.map(|waiting| (waiting.sequence, waiting.place.clone()))
    }

    /// One is somewhere else now.
    pub(super) fn set_place(&mut self, sequence: u64, place: Place) {
        let found = self
            .waiting
            .iter_mut()
            .find(|waiting| waiting.sequence == sequence);
        let Some(waiting) = found else { return };
        let before = std::mem::replace(&mut waiting.place, place);
        // it may be of another journal now
        self.at_hand = None;
        self.bytes = self.bytes - before.bytes() + waiting.place.bytes();
        self.in_memory -= usize::from(before.is_memory());
        self.in_memory += usize::from(waiting.place.is_memory());
    }
}

/// Brings a batch to disk for good; how many bytes it takes there. `written`: as in
/// [`Place::Memory`].
///
/// # Errors
/// When it may not last.
pub(super) fn keep(batch: &Batch, written: Option<u64>, files: &Files) -> io::Result<u64> {
    let lines = batch.lines();
    let needed = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    match written {
        Some(bytes) if bytes <= needed.saturating_mul(GROWTH) => {
            files.keep(batch.sequence())?;
            Ok(bytes)
        }
        _ => {
            files.replace(batch.sequence(), &lines)?;
            Ok(needed)
        }
    }
}
