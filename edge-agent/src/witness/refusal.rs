//! Why a checkpoint is not taken.

use authguardian_proto::{checkpoint::CheckpointError, reason::Reason};

/// Why a checkpoint is not taken. What is kept stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The answer is not of its form.
    #[error("the control plane's answer has {0}")]
    Malformed(&'static str),
    /// It is no checkpoint, or none of the log's keys has signed it.
    #[error("the checkpoint of the audit log does not count: {0}")]
    Signature(#[from] CheckpointError),
    /// The log is shorter than what is kept of it.
    #[error(
        "the audit log `{origin}` was cut: a checkpoint of {kept} entries is kept, and it has {told}"
    )]
    Cut {
        /// Which log.
        origin: String,
        /// Entries of what is kept.
        kept: u64,
        /// Entries that it is told to have.
        told: u64,
    },
    /// What is kept is not the beginning of the log, or that is not proved.
    #[error(
        "the audit log `{origin}` of {told} entries does not begin with the {kept} of which a checkpoint is kept"
    )]
    Fork {
        /// Which log.
        origin: String,
        /// Entries of what is kept.
        kept: u64,
        /// Entries that it is told to have.
        told: u64,
    },
    /// It is of another log, and the one that is kept has not ended.
    #[error("the audit log is told to be `{told}`, and `{kept}` has not ended")]
    OtherLog {
        /// The log of what is kept.
        kept: String,
        /// The log that is told.
        told: String,
    },
    /// It is of a log that had ended before.
    #[error("the audit log is told to be `{0}`, which had ended")]
    EndedLog(String),
    /// The control plane does not know the key of what is kept.
    #[error("the control plane says that it has not signed the checkpoint that is kept of `{0}`")]
    Disowned(String),
}

impl Refusal {
    /// The stable name of its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Signature(_) => "signature",
            Self::Cut { .. } => "cut",
            Self::Fork { .. } => "fork",
            Self::OtherLog { .. } => "other_log",
            Self::EndedLog(_) => "ended_log",
            Self::Disowned(_) => "disowned",
        }
    }

    /// What the control plane's own log is told.
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::InvalidArgument,
            Self::Signature(_) | Self::Disowned(_) => Reason::SignatureInvalid,
            Self::Cut { .. } => Reason::Stale,
            Self::Fork { .. } | Self::OtherLog { .. } | Self::EndedLog(_) => {
                Reason::RevisionConflict
            }
        }
    }
}
