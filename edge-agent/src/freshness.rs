//! How old this edge's knowledge of the control plane's streams can be.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;

use crate::clock::Clock;

/// What is told to callers and used without asking is not older than this,
/// unless a token says otherwise.
pub const BOUND: Duration = Duration::from_secs(5);

/// That everything was known: every change of the streams `grants` and
/// `identity` that had happened when the question was asked has been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// Since boot, read before the control plane was asked.
    pub asked_at: Duration,
    /// The control plane's time after it was asked, milliseconds since 1970.
    pub server_time_ms: i64,
}

impl Proof {
    /// The control plane's time at an instant since boot; it may be ahead by
    /// the question's way to the control plane, so that nothing lives too long.
    pub fn server_time_ms_at(&self, since_boot: Duration) -> i64 {
        let since = since_boot.saturating_sub(self.asked_at).as_millis();
        self.server_time_ms
            .saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// How old it is at an instant since boot.
    pub fn age_at(&self, since_boot: Duration) -> Duration {
        since_boot.saturating_sub(self.asked_at)
    }
}

/// The newest [`Proof`]; written by the feed, read by whoever answers.
#[derive(Debug)]
pub struct Freshness {
    proof: ArcSwapOption<Proof>,
    clock: Arc<dyn Clock>,
}

impl Freshness {
    /// Nothing is known yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            proof: ArcSwapOption::empty(),
            clock,
        })
    }

    /// Takes a proof, unless a newer one is there.
    pub fn prove(&self, proof: Proof) {
        if self
            .proof()
            .is_none_or(|known| known.asked_at < proof.asked_at)
        {
            self.proof.store(Some(Arc::new(proof)));
        }
    }

    /// The newest proof. To be read **before** what it is to vouch for.
    pub fn proof(&self) -> Option<Proof> {
        self.proof.load().as_deref().copied()
    }

    /// Since boot: now.
    pub fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    /// How old the newest proof is; `None` before the first.
    pub fn age(&self) -> Option<Duration> {
        let proof = self.proof()?;
        Some(proof.age_at(self.since_boot()))
    }

    /// Whether what is known is younger than [`BOUND`].
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= BOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    #[test]
    fn a_proof_ages_from_before_the_question_and_an_older_one_changes_nothing() {
        let (clock, ambient) = ManualClock::ambient();
        let freshness = Freshness::new(ambient.clock.clone());
        assert!(!freshness.is_fresh());
        assert_eq!(freshness.age(), None);
        let proof = Proof {
            asked_at: ambient.clock.since_boot(),
            server_time_ms: 1_000_000,
        };
        clock.advance(Duration::from_secs(2));
        freshness.prove(proof);
        assert_eq!(freshness.age(), Some(Duration::from_secs(2)));
        freshness.prove(Proof {
            asked_at: Duration::ZERO,
            server_time_ms: 0,
        });
        assert_eq!(freshness.proof(), Some(proof));
        clock.advance(Duration::from_secs(3));
        assert!(freshness.is_fresh());
        assert_eq!(proof.server_time_ms_at(freshness.since_boot()), 1_005_000);
        clock.advance(Duration::from_millis(1));
        assert!(!freshness.is_fresh());
    }
}
