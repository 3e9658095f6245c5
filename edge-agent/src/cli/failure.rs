//! A command that failed: what it says and how it exits.

use std::{io::Write, process::ExitCode};

use authguardian_proto::reason::{Code, Problem, Reason};
use authguardian_terminal::Failed;

/// What stderr and the exit code tell.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    exit: u8,
}

impl Failure {
    /// Something failed that has no reason of its own.
    pub(super) fn other(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: 1,
        }
    }

    /// The command was not used right.
    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: 2,
        }
    }

    /// With the exit code of a reason.
    pub(super) fn with_reason(reason: Reason, message: impl std::fmt::Display) -> Self {
        Self::with_code(reason.code(), message)
    }

    /// With the exit code of what kind of error it is.
    pub(super) fn with_code(code: Code, message: impl std::fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            exit: code.exit(),
        }
    }

    /// Writes to stderr.
    pub(super) fn tell(self) -> ExitCode {
        // with stderr closed there is nobody to tell
        let _ = writeln!(std::io::stderr(), "error: {}", self.message);
        ExitCode::from(self.exit)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            exit: problem.reason.code().exit(),
            message: problem.to_string(),
        }
    }
}

/// Writing to stdout failed.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::other(format!("cannot write the output: {error}"))
    }
}

impl Failed for Failure {
    /// An edge that is away, or too busy, for a while.
    fn passing(&self) -> Option<String> {
        matches!(self.exit, 6 | 7).then(|| format!("error: {}", self.message))
    }
}
