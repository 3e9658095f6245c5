//! One slice, as its machine knows it.

use std::time::Duration;

use super::{
    holding::{Answer, Kept, Row},
    ledger::{Amount, Ledger},
};

/// A part of a slice that a crash may count as spent although it was not: one of so many.
const CHUNKS: Amount = 16;

/// One slice.
#[derive(Debug, Clone, Copy, PartialEq, Hash)]
pub(super) struct Part {
    pub(super) epoch: u64,
    pub(super) ledger: Ledger,
    /// Since boot: until when it may be spent from.
    pub(super) lease_ends: Duration,
    /// How far marks are ahead: a part of what was held when some was given last.
    pub(super) chunk: Amount,
    /// When its window began, seconds since 1970.
    pub(super) window: Option<i64>,
}

impl Part {
    pub(super) fn resumed(kept: Kept) -> Self {
        Self {
            epoch: kept.epoch,
            ledger: Ledger::resumed(kept.report, kept.mark),
            lease_ends: Duration::ZERO,
            chunk: 0,
            window: kept.window,
        }
    }

    pub(super) fn kept(&self) -> Kept {
        Kept {
            epoch: self.epoch,
            report: self.ledger.report(),
            mark: self.ledger.mark(),
            window: self.window,
        }
    }

    pub(super) fn hear(&mut self, answer: &Answer) {
        let before = self.ledger.report().granted;
        let Answer {
            granted,
            returned,
            reported,
            ..
        } = *answer;
        self.ledger.hear(granted, returned, reported);
        if granted > before || self.chunk == 0 {
            let held = self
                .ledger
                .most()
                .saturating_sub(self.ledger.report().spent);
            self.chunk = (held / CHUNKS).max(1);
        }
    }

    /// As it is on disk.
    pub(super) fn row(&self) -> Row {
        Row {
            epoch: self.epoch,
            returned: self.ledger.report().returned,
            mark: self.ledger.mark(),
        }
    }

    /// As it is to be there for so much to be used.
    pub(super) fn row_for(&self, used: Amount) -> Row {
        Row {
            mark: self.ledger.next_mark(used, self.chunk.max(1)),
            ..self.row()
        }
    }
}
