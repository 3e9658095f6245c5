//! What was truly spent of a slice, whatever anybody knows.

use edge_agent::slices::{Amount, Report};

use super::Violation;

/// A loss of power counts so much of a slice as spent that was not: one of so many parts.
const CHUNKS: Amount = 16;

/// Of one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    /// What agents were told that it is counted.
    pub(crate) settled: Amount,
    /// What was set aside when power was lost: agents may have spent it, and cannot say so.
    pub(crate) lost: Amount,
    /// What an operator has said was spent.
    pub(crate) declared: Amount,
    /// What counts as spent beyond what was settled, since power was lost or an operator
    /// has said so.
    pub(crate) over: Amount,
    /// The most that was ever used, or was about to be.
    pub(crate) most: Amount,
}

impl Truth {
    /// What has to count as spent.
    pub(crate) fn spent(&self) -> Amount {
        self.settled + self.lost
    }

    pub(super) fn use_up_to(&mut self, used: Amount) {
        self.most = self.most.max(used);
    }

    /// This is what is known after a loss of power: nothing that was spent is forgotten, and
    /// no more counts as spent than was once used, and a chunk.
    pub(super) fn lose_power(&mut self, known: &Report) -> Result<(), Violation> {
        if known.spent < self.spent() {
            return Err(format!("{self:?} was forgotten: {known:?}"));
        }
        let chunk = (known.granted / CHUNKS).max(1);
        if known.spent > self.most + chunk {
            return Err(format!("{self:?} counts too much: {known:?}"));
        }
        self.over = known.spent - self.settled;
        self.use_up_to(known.spent);
        Ok(())
    }
}
