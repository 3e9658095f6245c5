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

impl Default for Queue {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
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
        self.waiting.push_back(waiting);
    }

    /// The first is not waited for any more.
    pub(super) fn pop(&mut self) {
        self.waiting.pop_front();
    }

    /// Whether another one may wait.
    pub(super) fn has_room(&self) -> bool {
        let taken = |waiting: &Waiting| match waiting.place {
            Place::Disk(bytes) | Place::Memory(_, Some(bytes)) => bytes.max(BLOCK),
            Place::Memory(_, None) => BLOCK,
        };
        self.in_memory().count() < MAX_IN_MEMORY
            && self.waiting.iter().map(taken).sum::<u64>() < self.max_bytes
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
        if let Some(waiting) = found {
            waiting.place = place;
        }
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
