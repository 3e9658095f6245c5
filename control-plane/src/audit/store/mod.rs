//! All SQL of the audit log.

pub(super) mod checkpoint;
mod entry;
pub(super) mod journal;
pub(super) mod log;
pub(super) mod retention;
mod row;
pub(super) mod sealed;
pub(super) mod search;
pub(super) mod tile;
pub(super) mod witness;

pub(super) use entry::{append, lock, move_back, pending, pending_count};
