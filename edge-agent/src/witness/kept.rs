//! A checkpoint that was taken, with what checks it.

use authguardian_proto::checkpoint::{Checkpoint, VerifierKey};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A checkpoint of the audit log that this machine has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// It itself: a signed note.
    pub note: String,
    /// The key that has signed it.
    pub key: VerifierKey,
    /// When it was taken, by this machine's wall clock.
    pub kept_at: OffsetDateTime,
}

/// As it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Written {
    note: String,
    key: String,
    #[serde(with = "time::serde::rfc3339")]
    kept_at: OffsetDateTime,
}

impl Kept {
    /// When it was taken, RFC 3339.
    pub fn kept_at_text(&self) -> String {
        self.kept_at.format(&Rfc3339).unwrap_or_default()
    }

    pub(super) fn written(&self) -> Written {
        Written {
            note: self.note.clone(),
            key: self.key.to_string(),
            kept_at: self.kept_at,
        }
    }
}

impl Written {
    /// Reads it back; `None` when it is not what was written.
    pub(super) fn read(self) -> Option<Kept> {
        let key: VerifierKey = self.key.parse().ok()?;
        let checkpoint = Checkpoint::open(&self.note, std::slice::from_ref(&key)).ok()?;
        Some(Kept {
            checkpoint,
            note: self.note,
            key,
            kept_at: self.kept_at,
        })
    }
}
