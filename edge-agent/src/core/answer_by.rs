//! Until when an answer may be sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Limits the next answer of a connection. A process can be stopped at any
/// point between finding an answer and sending it, and know nothing of that:
/// so the connection looks here right before it sends.
#[derive(Debug, Clone, Default)]
pub struct AnswerBy(Arc<AtomicU64>);

impl AnswerBy {
    /// The next answer is not sent after this instant since boot.
    pub fn set(&self, since_boot: Duration) {
        let nanos = u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(nanos.max(1), Ordering::Release);
    }

    /// An answer with this limit is about to be sent: the next one of the
    /// connection is sent by the earlier of both.
    pub fn tighten(&self, limit: &Self) {
        let nanos = limit.0.load(Ordering::Acquire);
        if nanos != 0 {
            let earlier = |now| (now == 0 || nanos < now).then_some(nanos);
            // refused where the limit is the earlier one already
            let _ = self
                .0
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, earlier);
        }
    }

    /// It has been sent.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Whether it is too late; the clock, since boot, is only asked where there
    /// is a limit.
    pub fn has_passed(&self, since_boot: impl FnOnce() -> Duration) -> bool {
        match self.0.load(Ordering::Acquire) {
            0 => false,
            nanos => since_boot() > Duration::from_nanos(nanos),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_late_after_its_limit_until_that_is_cleared() {
        let answer = AnswerBy::default();
        let late_at = |second| answer.has_passed(|| Duration::from_secs(second));
        assert!(!late_at(1_000), "there is no limit");
        answer.set(Duration::from_secs(7));
        assert!(!late_at(7));
        assert!(late_at(8));
        answer.clear();
        assert!(!late_at(8));
    }

    #[test]
    fn answers_that_are_sent_together_go_by_the_earliest_limit() {
        let limit_of = |second| {
            let limit = AnswerBy::default();
            limit.set(Duration::from_secs(second));
            limit
        };
        let answer = AnswerBy::default();
        let late_at = |second| answer.has_passed(|| Duration::from_secs(second));
        answer.tighten(&AnswerBy::default());
        assert!(!late_at(1_000), "there is no limit");
        for second in [9, 7, 8] {
            answer.tighten(&limit_of(second));
        }
        answer.tighten(&AnswerBy::default());
        assert!(!late_at(7));
        assert!(late_at(8));
    }
}
