//! Replicas of boards on edges: their leases, what they have written, and what
//! they lack. An edge talks to the control plane only, never to another edge, so
//! that what the control plane has had once can be known by counters alone.

mod collect;
mod conflict;
mod delta;
mod eligible;
mod follow;
mod open;
mod push;

use authguardian_proto::{
    board::Key,
    crdt::{Version, Write},
};

pub use follow::{Follow, News, Suspended};
pub use open::{Opened, Opening};
pub use push::{PushedWrite, Refusal};

pub(super) use delta::Deltas;

/// A version that a board has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Of which key.
    pub key: Key,
    /// What.
    pub version: Version<Write>,
    /// The board's revision that took it.
    pub revision: i64,
}
