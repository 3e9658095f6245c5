//! How much is set aside, by time.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use super::ledger::Amount;

/// Half-life of what was lately spent, for the rate.
const LATELY: Duration = Duration::from_secs(5);

/// How much was set aside lately, by exponential decay.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    /// What counts of it at `at`.
    weight: f64,
    at: Duration,
}

/// By the digits of it, as it is told apart by them.
impl Hash for Rate {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.weight.to_bits().hash(hasher);
        self.at.hash(hasher);
    }
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn add(&mut self, amount: Amount, now: Duration) {
        self.weight = self.weight_at(now) + amount as f64;
        self.at = now;
    }

    fn weight_at(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.weight * (-since / LATELY.as_secs_f64()).exp2()
    }

    /// How much that comes to within a time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded up, and never negative"
    )]
    pub(super) fn amount(&self, within: Duration, now: Duration) -> Amount {
        // a steady rate r has a weight of r · half-life / ln 2
        let per_second = self.weight_at(now) * std::f64::consts::LN_2 / LATELY.as_secs_f64();
        (per_second * within.as_secs_f64()).ceil() as Amount
    }
}
