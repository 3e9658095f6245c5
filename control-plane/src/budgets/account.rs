//! What a budget has in one window, and who has which part of it: numbers alone, so that
//! models and property tests try what the control plane runs. The tables hold the same
//! numbers, under constraints that say the same.

use serde::{Deserialize, Serialize};

/// An amount in the budget's unit.
pub type Amount = u64;

/// What cannot be reported of one budget in one window: sums stay far from what a number
/// holds.
const TOO_MUCH: Amount = 1 << 62;

/// A budget in one window. Always `reported - overdraft + outstanding <= total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// What may be spent in all.
    pub total: Amount,
    /// What machines have told that they spent.
    pub reported: Amount,
    /// The part of it that was more than they had.
    pub overdraft: Amount,
    /// What machines and budgets below this one hold, and have not told of.
    pub outstanding: Amount,
}

/// A machine's part of it, in one epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slice {
    /// All that it was ever given.
    pub granted: Amount,
    /// All that it has ever given back.
    pub returned: Amount,
    /// All that it has told that it spent.
    pub reported: Amount,
    /// An operator has settled it: it holds nothing any more.
    pub is_closed: bool,
}

/// Numbers of a report that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more was given back than was given, or more was spent than can be counted")]
pub struct Contradiction;

impl Account {
    /// One of which nothing was given.
    pub fn new(total: Amount) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    /// What can be given: nothing while there is overdraft.
    pub fn rest(&self) -> Amount {
        if self.overdraft > 0 {
            return 0;
        }
        self.total.saturating_sub(self.held())
    }

    /// What was spent within it, and what is out.
    pub fn held(&self) -> Amount {
        self.reported.saturating_sub(self.overdraft) + self.outstanding
    }

    /// Takes what a machine tells, however often and in whatever order it comes.
    ///
    /// # Errors
    /// [`Contradiction`]; nothing was done.
    pub fn hear(
        &mut self,
        slice: &mut Slice,
        returned: Amount,
        spent: Amount,
    ) -> Result<(), Contradiction> {
        if returned > slice.granted || self.reported.saturating_add(spent) > TOO_MUCH {
            return Err(Contradiction);
        }
        let before = *slice;
        slice.reported = slice.reported.max(spent);
        if !slice.is_closed {
            slice.returned = slice.returned.max(returned);
        }
        self.reported += slice.reported - before.reported;
        self.overdraft = self.overdraft + slice.overdraft() - before.overdraft();
        self.outstanding = self.outstanding + slice.outstanding() - before.outstanding();
        Ok(())
    }

    /// Gives a machine more, as far as there is a rest. How much.
    pub fn grant(&mut self, slice: &mut Slice, amount: Amount) -> Amount {
        if slice.is_closed || slice.overdraft() > 0 {
            return 0;
        }
        let given = amount.min(self.rest());
        slice.granted += given;
        self.outstanding += given;
        given
    }

    /// What of the total is neither spent nor given to anybody.
    pub fn left(&self) -> Amount {
        self.total.saturating_sub(self.held())
    }

    /// Covers what a machine has spent beyond what it had with what is left. How much.
    pub fn cover(&mut self, slice: &mut Slice) -> Amount {
        let covered = slice.overdraft().min(self.left());
        slice.granted += covered;
        self.overdraft -= covered;
        covered
    }

    /// Counts no more as spent of a slice than what was told: what comes later is overdraft.
    pub fn settle(&mut self, slice: &mut Slice) {
        self.outstanding -= slice.outstanding();
        slice.returned = slice
            .granted
            .saturating_sub(slice.reported)
            .max(slice.returned);
        slice.is_closed = true;
    }
}

impl Slice {
    /// What it holds and has not told of.
    pub fn outstanding(&self) -> Amount {
        self.granted
            .saturating_sub(self.returned)
            .saturating_sub(self.reported)
    }

    /// What it has told beyond what it had.
    pub fn overdraft(&self) -> Amount {
        (self.reported + self.returned).saturating_sub(self.granted)
    }
}
