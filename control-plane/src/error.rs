//! The error that services return: what the caller is told, and the cause,
//! which only the log sees.

use std::error::Error as StdError;

use authguardian_proto::reason::{Problem, Reason};

/// Result of a service call.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with its outside ([`Problem`]) and its inside (the cause) apart.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Error {
    problem: Problem,
    // not `#[source]`: Display of the chain would carry it to callers
    cause: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that no single field is at fault for.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Problem::new(reason, detail).into()
    }

    /// A field that is not of its form.
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Problem::invalid(field, detail).into()
    }

    /// A failure of ours; `cause` goes to the log.
    pub fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(
            Reason::Internal,
            "the control plane failed; its log has the cause",
        )
        .caused_by(cause)
    }

    /// Adds what the log is to know.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What the caller is told.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.problem.reason
    }

    /// What only the log is told.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.cause.as_deref()
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            cause: None,
        }
    }
}
