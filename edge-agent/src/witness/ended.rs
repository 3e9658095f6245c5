//! Logs that were left: the last checkpoint of each is evidence.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::kept::{Kept, Written};

/// The last checkpoint of a log that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// The checkpoint.
    pub kept: Kept,
    /// When the log was left, by this machine's wall clock.
    pub left_at: OffsetDateTime,
    /// Why.
    pub why: Why,
}

/// Why a log was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The database was restored, and all that was kept is in the log.
    Restored,
    /// The database was restored, and entries that were kept are lost.
    Lost {
        /// The last size of the log.
        size: u64,
    },
    /// This machine has joined anew.
    Joined,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenLeft {
    kept: Written,
    #[serde(with = "time::serde::rfc3339")]
    left_at: OffsetDateTime,
    why: Why,
}

impl WrittenLeft {
    pub(super) fn of(left: &Left) -> Self {
        Self {
            kept: left.kept.written(),
            left_at: left.left_at,
            why: left.why,
        }
    }

    /// Reads it back; `None` when it is not what was written.
    pub(super) fn read(self) -> Option<Left> {
        Some(Left {
            kept: self.kept.read()?,
            left_at: self.left_at,
            why: self.why,
        })
    }
}
