//! The figures of rounds, for `make soak`.

use std::{fmt, time::Duration};

use super::history::{Act, Answer, Call};

/// One round.
pub(super) struct Round {
    pub(super) calls: usize,
    pub(super) grants: usize,
    pub(super) revocations: usize,
    /// Attempts whose outcome was not told.
    pub(super) unknown: usize,
    /// Calls whose outcome was learnt by repeating.
    pub(super) resolved_by_retry: usize,
    /// Calls that were on their way when the process was killed.
    pub(super) in_flight: usize,
    /// From starting it again until calls were acknowledged again.
    pub(super) recovery: Duration,
}

impl Round {
    /// Counts what came of the calls of a round.
    pub(super) fn of(calls: &[Call], killed_at: Duration, started_at: Duration) -> Self {
        let acknowledged = |act: fn(&Act) -> bool| {
            let told = |call: &&Call| call.outcome().is_some_and(Answer::is_acknowledged);
            calls
                .iter()
                .filter(told)
                .filter(|call| act(&call.act))
                .count()
        };
        let attempts = || calls.iter().flat_map(|call| &call.attempts);
        Self {
            calls: calls.len(),
            grants: acknowledged(|act| *act == Act::Request),
            revocations: acknowledged(|act| *act != Act::Request),
            unknown: attempts()
                .filter(|attempt| matches!(attempt.answer, Answer::Unknown(_)))
                .count(),
            resolved_by_retry: calls.iter().filter(|call| call.resolved_by_retry()).count(),
            in_flight: attempts()
                .filter(|attempt| attempt.start < killed_at && killed_at < attempt.end)
                .count(),
            recovery: recovery(calls, started_at),
        }
    }
}

/// The end of the longest silence since the start: answers that were on their
/// way already do not count as recovery.
fn recovery(calls: &[Call], started_at: Duration) -> Duration {
    let attempts = calls.iter().flat_map(|call| &call.attempts);
    let mut heard: Vec<Duration> = attempts
        .filter(|attempt| attempt.answer.is_acknowledged() && attempt.end > started_at)
        .map(|attempt| attempt.end)
        .collect();
    heard.sort_unstable();
    let silences = std::iter::once(&started_at).chain(&heard).zip(&heard);
    let longest = silences.max_by_key(|(from, to)| to.saturating_sub(**from));
    longest.map_or(Duration::ZERO, |(_, to)| to.saturating_sub(started_at))
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls, {} grants and {} revocations acknowledged, {} in flight at the kill, \
             {} attempts unknown, {} calls resolved by retry, recovered in {} ms",
            self.calls,
            self.grants,
            self.revocations,
            self.in_flight,
            self.unknown,
            self.resolved_by_retry,
            self.recovery.as_millis()
        )
    }
}

/// All rounds together.
pub(super) struct Summary<'a>(pub(super) &'a [Round]);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |figure: fn(&Round) -> usize| self.0.iter().map(figure).sum::<usize>();
        let mut recoveries: Vec<u128> = self
            .0
            .iter()
            .map(|round| round.recovery.as_millis())
            .collect();
        recoveries.sort_unstable();
        write!(
            f,
            "{} rounds: {} calls, {} grants and {} revocations acknowledged, {} in flight at a kill, \
             {} attempts unknown, {} calls resolved by retry, none lost, none doubled, recovered in {} ms (median), {} ms (maximum)",
            self.0.len(),
            sum(|round| round.calls),
            sum(|round| round.grants),
            sum(|round| round.revocations),
            sum(|round| round.in_flight),
            sum(|round| round.unknown),
            sum(|round| round.resolved_by_retry),
            u128::midpoint(
                recoveries[(recoveries.len() - 1) / 2],
                recoveries[recoveries.len() / 2]
            ),
            recoveries[recoveries.len() - 1],
        )
    }
}
