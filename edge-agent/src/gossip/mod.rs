//! What edges tell each other, also of third ones, and what is kept of it. Each
//! machine signs that it is there, with a counter that only it can raise, and
//! names the records of its agents by a fingerprint: whoever passes that on can
//! change nothing and leave nothing out. Nothing is kept or passed on that was
//! not checked before.
//!
//! Who has what is reconciled as in Scuttlebutt (van Renesse et al., "Efficient
//! Reconciliation and Flow Control for Anti-Entropy Protocols", LADIS 2008): a
//! digest of what is known goes out, what is newer comes back.

mod members;
mod message;
#[cfg(test)]
mod tests;

pub use members::{Fault, Members, Own, Reached, Records};
pub use message::{Entry, Known, Life, MAX_MESSAGE, Message};

/// Most bytes of one machine's records.
pub const MAX_RECORDS_BYTES: usize = 512 * 1024;
