//! The checks.

mod agreement;
mod candidates;
mod convergence;
mod explain;
mod facts;
mod locks;
mod lost;
mod observers;
mod order;
mod sessions;
mod watch;
mod written;

use std::fmt;

pub use convergence::{ConvergenceReport, convergence};
pub use explain::{linearizable, linearizable_within};
pub use locks::locks;
pub use lost::nothing_lost;
pub use sessions::{SessionReport, sessions};
pub use watch::{watch, watch_within};

/// How far a check goes before it gives up. Revisions that clients were told
/// leave nothing to choose; only the revisions that nobody was told (calls of
/// unknown outcome, entries that ended by themselves) are searched for, and
/// every choice is tried once for each different state of the board.
pub const STATES: u64 = 2_000_000;

/// What was checked, where nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Calls.
    pub operations: usize,
    /// Of them, done.
    pub acknowledged: usize,
    /// Of them, refused.
    pub refused: usize,
    /// Of them, of unknown outcome and able to change something.
    pub unknown: usize,
    /// Of the unknown ones, those that have happened in the order that was found.
    pub unknown_happened: usize,
    /// Revisions in which entries ended by themselves, in that order.
    pub expiries: usize,
    /// Revisions that are explained.
    pub revisions: u64,
    /// Messages of watchers that were compared.
    pub messages: usize,
    /// States of the board that were tried.
    pub states: u64,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened, in a sentence or two.
    pub text: String,
    /// The calls or messages concerned, one a line.
    pub concerned: Vec<String>,
}

/// What can be violated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// One revision is that of two calls.
    RevisionTwice,
    /// A revision that no call explains: something was done that nobody asked
    /// for, or twice.
    RevisionOfNobody,
    /// A call was told something that was already overtaken when it began.
    RealTime,
    /// What was told is not what was there.
    WrongAnswer,
    /// There is no moment during the call at which what it was told was true.
    NoMoment,
    /// Positions of a later epoch come before those of an earlier one.
    Epoch,
    /// Two answers to one request id differ.
    TwoOutcomes,
    /// An acknowledged write is not there.
    Lost,
    /// Two held one lock.
    TwoHolders,
    /// A fencing revision is not above an earlier one.
    Fencing,
    /// A write of one who no longer held the lock was done.
    NotFenced,
    /// A watcher: events out of order.
    Ordered,
    /// A watcher: an event twice.
    Unique,
    /// A watcher: a part of a revision.
    Atomic,
    /// A watcher: an event is missing.
    Reliable,
    /// A watcher: an event is missing behind the position that it went on from.
    Resumable,
    /// A watcher: an event at or before a position that was told to be complete.
    Bookmarkable,
    /// A watcher: what was there before is not what was there.
    Previous,
    /// A watcher: an event that is not what happened.
    WrongEvent,
    /// A session was told something from before its own write.
    ReadYourWrites,
    /// A session was told something from before what it had been told.
    MonotonicReads,
    /// A write of a session is not behind its writes before.
    MonotonicWrites,
    /// A write of a session is not behind what it had read.
    WritesFollowReads,
    /// Something is there that nobody wrote.
    NeverWritten,
    /// A write that was refused is there.
    RefusedSeen,
    /// Replicas that have heard of the same do not have the same.
    Diverged,
    /// Readers are told another value than the one that wins.
    Winner,
    /// What a deletion had seen is there.
    Resurrected,
    /// What a later write had seen is there beside it, or instead of it.
    Overwritten,
    /// Two writes have the same dot.
    DotTwice,
    /// The bound was reached: neither kept nor violated.
    Undecided,
}

impl Violation {
    fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self {
            rule,
            text: text.into(),
            concerned: Vec::new(),
        }
    }

    fn with(mut self, concerned: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let lines = concerned.into_iter().map(|item| item.to_string());
        self.concerned.extend(lines);
        self
    }
}

impl std::error::Error for Violation {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)?;
        for line in &self.concerned {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations ({} acknowledged, {} refused, {} unknown, of which {} have happened), \
             {} revisions ({} expiries), {} watch messages, {} states searched",
            self.operations,
            self.acknowledged,
            self.refused,
            self.unknown,
            self.unknown_happened,
            self.revisions,
            self.expiries,
            self.messages,
            self.states
        )
    }
}
