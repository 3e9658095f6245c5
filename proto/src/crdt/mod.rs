//! What eventual boards are merged by: vector clocks tell what a write had seen,
//! a hybrid clock orders what saw nothing of each other.
//!
//! A key has *siblings*: versions none of which had seen another. Merging two
//! states keeps every version that no other has seen (dotted version vectors:
//! Preguiça, Baquero et al. 2010), so it is commutative, associative and
//! idempotent, and every replica that has heard of the same writes has the same
//! siblings, in whatever order it heard of them. Readers are told one of them, the
//! same everywhere ([`Siblings::winner`]); the next write sees them all.

mod actor;
mod clock;
mod hybrid;
mod siblings;
mod write;

pub use actor::{Actor, Dot};
pub use clock::VectorClock;
pub use hybrid::{HybridClock, HybridTime};
pub use siblings::{Content, Siblings, Version};
pub use write::{ParseVersionError, Write};

#[cfg(test)]
mod tests;
