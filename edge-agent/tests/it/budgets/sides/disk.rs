//! What a machine has written of its slices, and what of that is on disk.

use std::collections::BTreeMap;

use edge_agent::slices::{Kept, Past, Row};

/// The lines of a journal that count after a loss of power.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    synced: BTreeMap<u64, Kept>,
    written: Vec<Line>,
    /// Slices that are over.
    past: BTreeMap<u64, Past>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Line {
    Slice(Kept),
    Over(u64, Option<Past>),
}

impl Disk {
    /// Writes what has changed of the slices, and how far one of them is to be used next.
    pub(super) fn replace(
        &mut self,
        before: &[Kept],
        now: &[Kept],
        ahead: Option<Row>,
        past: Option<Past>,
    ) {
        for slice in now {
            let ahead = ahead.filter(|row| row.epoch == slice.epoch);
            let mark = ahead.map_or(slice.mark, |row| row.mark.max(slice.mark));
            let slice = Kept { mark, ..*slice };
            if !before.contains(&slice) {
                self.written.push(Line::Slice(slice));
            }
        }
        let is_over = |slice: &&Kept| now.iter().all(|other| other.epoch != slice.epoch);
        let over = before.iter().filter(is_over);
        self.written
            .extend(over.map(|slice| Line::Over(slice.epoch, past)));
    }

    /// Writes how far a slice may be used.
    pub(super) fn write(&mut self, slice: Kept) {
        self.written.push(Line::Slice(slice));
    }

    /// All that was written is on disk.
    pub(super) fn sync(&mut self) {
        self.lose(usize::MAX);
    }

    /// How many lines are not there yet.
    pub(super) fn unsynced(&self) -> usize {
        self.written.len()
    }

    /// So many of the lines that were not on disk yet have come there, and the rest is lost.
    pub(super) fn lose(&mut self, after: usize) {
        for line in std::mem::take(&mut self.written).into_iter().take(after) {
            match line {
                // marks only grow, unless more was given back
                Line::Slice(slice) => {
                    let slice = self.marked(slice);
                    self.synced.insert(slice.epoch, slice);
                }
                Line::Over(epoch, past) => {
                    self.synced.remove(&epoch);
                    self.past.extend(past.map(|past| (epoch, past)));
                }
            }
        }
    }

    /// As if marks were not written.
    pub(super) fn forget_marks(&mut self) {
        for slice in self.synced.values_mut() {
            (slice.mark, slice.report.spent) = (0, 0);
        }
    }

    /// What is known of a slice, with the mark that is on disk.
    pub(super) fn marked(&self, mut slice: Kept) -> Kept {
        let known = self.synced.get(&slice.epoch);
        let same = known.filter(|known| known.report.returned == slice.report.returned);
        slice.mark = same.map_or(slice.mark, |known| known.mark.max(slice.mark));
        slice
    }

    /// What is remembered of slices that are over.
    pub(super) fn past(&self) -> BTreeMap<u64, Past> {
        self.past.clone()
    }

    /// What a machine knows after a loss of power: all up to the marks counts as spent.
    pub(super) fn read(&self) -> Vec<Kept> {
        let mut slices: Vec<Kept> = self.synced.values().copied().collect();
        for slice in &mut slices {
            slice.report.spent = slice.report.spent.max(slice.mark);
            slice.report.reserved = 0;
        }
        slices
    }
}
