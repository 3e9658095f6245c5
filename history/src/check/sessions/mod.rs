//! What a session may rely on (Terry et al. 1994), whichever faces, edges and
//! control planes answer it.
//!
//! A session is all that one client of a history asks; what began after
//! something had ended follows it. Writes are ordered by their positions, those
//! of a later epoch behind those of all earlier ones. What is compared:
//!
//! - *Read your writes*: a read shows of a key the session's last write of it,
//!   or a later one, and a board that is not before any write of the session. A
//!   key that the session has written is not there only where a deletion behind
//!   that, one of unknown outcome or its time can have ended it.
//! - *Monotonic reads*: a read shows of a key no older revision than the session
//!   has seen of it, no key that was seen to be gone as it was before that, and
//!   no board that is before one it has read.
//! - *Monotonic writes*: a write is behind all writes of the session before.
//! - *Writes follow reads*: a write is behind all that the session has read.
//!
//! The last two are promises to others as well: whoever sees a write sees what
//! is before it. So what anybody is shown at a position has to be all of it, the
//! last acknowledged write of each key up to there and no older one. And all that
//! is shown was written: by a call that was told so, or by one of unknown
//! outcome, which need not have happened; never by one that was refused.

mod known;
mod read;
mod writes;

use std::{collections::BTreeMap, fmt};

use super::{Violation, explain::one_outcome_each};
use crate::operation::{History, Operation, Outcome};
use known::Known;
use read::Read;
use writes::Writes;

/// What was checked, where nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionReport {
    /// Clients.
    pub sessions: usize,
    /// Calls that were shown what is in keys, or that nothing is.
    pub reads: usize,
    /// Calls that were told that they have changed something.
    pub writes: usize,
    /// Calls that were refused, reads of what is not there aside.
    pub refused: usize,
    /// Calls of unknown outcome that were able to change something.
    pub unknown: usize,
    /// Values that such calls must have written, since they were shown.
    pub unknown_shown: usize,
}

/// Whether each client of a session board was told nothing older than what it
/// knew already, and nobody what was never written.
///
/// # Errors
/// What was told, and what the session knew before.
pub fn sessions(history: &History) -> Result<SessionReport, Violation> {
    one_outcome_each(history)?;
    let writes = Writes::of(history)?;
    let mut sessions: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in &history.operations {
        let calls = sessions.entry(&operation.client).or_default();
        calls.push(operation);
    }
    for calls in sessions.values() {
        follow(calls, &writes)?;
    }
    let count = |is: fn(&Operation) -> bool| {
        let operations = history.operations.iter();
        operations.filter(|operation| is(operation)).count()
    };
    let is_refused = |operation: &Operation| {
        matches!(operation.outcome, Outcome::Refused(_)) && Read::of(operation).is_none()
    };
    let is_unknown =
        |operation: &Operation| operation.outcome == Outcome::Unknown && operation.is_mutating();
    Ok(SessionReport {
        sessions: sessions.len(),
        reads: count(|operation| Read::of(operation).is_some()),
        writes: count(|operation| operation.made_revision().is_some()),
        refused: count(is_refused),
        unknown: count(is_unknown),
        unknown_shown: writes.unknown_shown(history)?,
    })
}

/// Compares each call of a session with those that had ended when it began.
fn follow<'h>(calls: &[&'h Operation], writes: &Writes<'h>) -> Result<(), Violation> {
    let mut by_start = calls.to_vec();
    by_start.sort_by_key(|call| call.start);
    let mut by_end: Vec<_> = calls
        .iter()
        .filter_map(|call| Some((call.end?, *call)))
        .collect();
    by_end.sort_by_key(|(end, _)| *end);
    let mut ended = by_end.into_iter().peekable();
    let mut known = Known::of(writes);
    for call in by_start {
        while let Some((_, before)) = ended.next_if(|(end, _)| *end < call.start) {
            known.learn(before);
        }
        known.check(call)?;
    }
    Ok(())
}

impl fmt::Display for SessionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sessions, {} reads, {} writes, {} refused, {} unknown, of which {} were shown",
            self.sessions, self.reads, self.writes, self.refused, self.unknown, self.unknown_shown
        )
    }
}
