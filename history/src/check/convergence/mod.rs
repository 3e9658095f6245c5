//! Whether replicas that merge come to the same, without losing anything.
//!
//! A write is known by its dot, or where its client was not told that, by its
//! value. Of each replica and key:
//!
//! - what is there was written there by somebody, and not by one who was refused;
//! - no version is there that another one, or an acknowledged write, had seen: a
//!   key that was deleted comes back only with a value that the deletion had not
//!   seen;
//! - readers are told a value if there is any, and the latest.
//!
//! Then all replicas have the same versions and tell their readers the same. And
//! every acknowledged write is among the versions, or one of them has seen it, or
//! a deletion has whose tombstone has been forgotten since.

mod kept;
mod same;
mod there;
mod written;

use std::fmt;

use super::Violation;
use crate::eventual::{Fate, Merged};
use written::Written;

/// What was checked, where nothing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConvergenceReport {
    /// Replicas.
    pub replicas: usize,
    /// Keys of which anything is known.
    pub keys: usize,
    /// Of them, those with more than one value.
    pub with_siblings: usize,
    /// Of them, those that are deleted.
    pub deleted: usize,
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Of them, those that are there.
    pub present: usize,
    /// Of them, those that another has seen.
    pub replaced: usize,
    /// Of them, those that have ended by themselves.
    pub ended: usize,
    /// Of them, those of which nobody was told enough to say: without a dot, gone,
    /// and something may have seen them.
    pub unproven: usize,
    /// Writes that were refused.
    pub refused: usize,
    /// Writes of unknown outcome.
    pub unknown: usize,
}

/// Whether all replicas have come to the same, no acknowledged write is lost and
/// nothing is there that nobody wrote.
///
/// # Errors
/// The replica, the key and the write that do not go together.
pub fn convergence(merged: &Merged) -> Result<ConvergenceReport, Violation> {
    let written = Written::of(merged)?;
    for replica in &merged.replicas {
        there::check(replica, &written)?;
    }
    same::check(&merged.replicas, &merged.collected)?;
    let count = |fate: Fate| {
        let writes = merged.writes.iter();
        writes.filter(|write| write.fate == fate).count()
    };
    let mut report = ConvergenceReport {
        replicas: merged.replicas.len(),
        acknowledged: count(Fate::Acknowledged),
        refused: count(Fate::Refused),
        unknown: count(Fate::Unknown),
        ..ConvergenceReport::default()
    };
    kept::check(merged, &written, &mut report)?;
    Ok(report)
}

impl fmt::Display for ConvergenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} replicas, {} keys ({} with siblings, {} deleted), {} writes acknowledged \
             ({} present, {} replaced, {} ended, {} not told enough of), {} refused, {} unknown",
            self.replicas,
            self.keys,
            self.with_siblings,
            self.deleted,
            self.acknowledged,
            self.present,
            self.replaced,
            self.ended,
            self.unproven,
            self.refused,
            self.unknown
        )
    }
}
