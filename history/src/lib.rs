//! Whether a board keeps its promises, judged from outside: clients record every
//! call with its beginning, its end and what they were told, and the checks look
//! for an order of things that explains all of it.
//!
//! Of a strong board:
//!
//! - [`check::linearizable`]: every call took effect at one moment between its
//!   beginning and its end (Herlihy and Wing 1990). Calls of unknown outcome
//!   may have taken effect at any moment after their beginning, or never.
//! - [`check::watch`]: what watchers were told, by the guarantees that etcd
//!   gives: ordered, unique, atomic, reliable, resumable, bookmarkable.
//! - [`check::locks`]: no two holders at a time, fencing revisions that grow, a
//!   late holder whose writes fail.
//! - [`check::nothing_lost`]: every acknowledged write against what is there in
//!   the end.
//!
//! Of a session board:
//!
//! - [`check::sessions`]: read your writes, monotonic reads, monotonic writes,
//!   writes follow reads (Terry et al. 1994), for each client wherever it goes;
//!   [`check::nothing_lost`] goes with it.
//!
//! Of an eventual board, whose replicas merge:
//!
//! - [`check::convergence`]: all replicas have the same in the end, and in it
//!   every acknowledged write, or one that has seen it, and nothing else.
//!
//! No I/O and no clock: the caller gives the time.

pub mod check;
pub mod eventual;
mod model;
mod operation;
mod recorder;
mod shown;
mod watching;

#[cfg(test)]
mod tests;

pub use operation::{
    Act, Answer, Call, Compare, Condition, Do, Entry, History, LockHeld, Operation, Outcome,
    Position, Refusal, Step, StepResult,
};
pub use recorder::{Pending, Recorder};
pub use watching::{Filter, Kind, Message, Segment, Told, WatchLog};
