//! Entries against their leaves.

use std::collections::HashMap;

use authguardian_proto::merkle::{Hash, TILE_WIDTH, hash_of};

use super::{Finding, Kind};
use crate::audit::{Record, log::Log};

/// Most entries and leaves that are kept until the end, to tell what was moved
/// from what was changed.
const UNMATCHED: usize = 100_000;

/// What did not fit so far.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    /// Entries that are not those of their leaves: their hashes.
    strangers: Vec<(i64, Hash)>,
    /// Leaves without their entry, by hash.
    orphans: HashMap<Hash, i64>,
    deleted: Vec<i64>,
    dropped: u64,
}

/// The leaf hashes from the tile `from` on, up to the first one that is
/// missing or short, and to the end of the log.
pub(in crate::audit) fn leaves(tiles: &[(i64, Vec<u8>)], from: i64, size: i64) -> Vec<Hash> {
    let mut leaves = Vec::with_capacity(tiles.len() * TILE_WIDTH);
    for (expected, (index, hashes)) in (from..).zip(tiles) {
        if *index != expected {
            break;
        }
        leaves.extend(hashes.chunks_exact(32).filter_map(hash_of));
        if hashes.len() < TILE_WIDTH * 32 {
            break;
        }
    }
    let before = from.saturating_mul(256);
    let room = usize::try_from(size.saturating_sub(before)).unwrap_or_default();
    leaves.truncate(room);
    leaves
}

impl Bodies {
    /// Compares entries with the leaves from `first` on; bodies below
    /// `kept_from` may be gone.
    pub(super) fn compare(
        &mut self,
        log: &Log,
        first: i64,
        leaves: &[Hash],
        records: &[Record],
        kept_from: i64,
    ) -> Vec<Finding> {
        let mut records = records.iter().peekable();
        let mut found = Vec::new();
        for (index, leaf) in (first..).zip(leaves) {
            let at = |record: &&Record| record.index() == Some(index);
            match records.next_if(at) {
                Some(record) => {
                    let hash = record.leaf().hash();
                    if hash != *leaf {
                        self.stranger(log, index, hash, *leaf, &mut found);
                    }
                }
                None if index < kept_from => self.dropped += 1,
                None => self.orphan(log, index, *leaf, &mut found),
            }
        }
        found
    }

    fn stranger(
        &mut self,
        log: &Log,
        index: i64,
        hash: Hash,
        leaf: Hash,
        found: &mut Vec<Finding>,
    ) {
        if self.strangers.len() < UNMATCHED {
            self.strangers.push((index, hash));
            self.orphans.insert(leaf, index);
        } else {
            found.push(changed(log, index));
        }
    }

    fn orphan(&mut self, log: &Log, index: i64, leaf: Hash, found: &mut Vec<Finding>) {
        if self.deleted.len() < UNMATCHED {
            self.deleted.push(index);
            self.orphans.insert(leaf, index);
        } else {
            found.push(deleted(log, index));
        }
    }

    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Now that all leaves are known: an entry whose leaf stands elsewhere was
    /// moved, any other was changed.
    pub(super) fn end(&mut self, log: &Log) -> Vec<Finding> {
        let mut found = Vec::new();
        for (index, hash) in std::mem::take(&mut self.strangers) {
            found.push(match self.orphans.get(&hash) {
                Some(sealed) => Finding::of(
                    log,
                    Kind::Reordered,
                    Some(index),
                    format!("entry {index} is the one that was sealed as {sealed}"),
                ),
                None => changed(log, index),
            });
        }
        let gone = std::mem::take(&mut self.deleted);
        found.extend(gone.into_iter().map(|index| deleted(log, index)));
        found.sort_by_key(|finding| finding.index);
        found
    }
}

fn changed(log: &Log, index: i64) -> Finding {
    let detail = format!("entry {index} is not what was sealed");
    Finding::of(log, Kind::Changed, Some(index), detail)
}

fn deleted(log: &Log, index: i64) -> Finding {
    let detail = format!("entry {index} is gone, and retention has not dropped it");
    Finding::of(log, Kind::Deleted, Some(index), detail)
}
