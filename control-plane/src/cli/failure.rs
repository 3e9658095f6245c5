//! How a command ends that did not succeed.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use authguardian_proto::reason::{Code, Problem, Reason};
use authguardian_terminal::Failed;
use serde::Serialize;

use super::output::Format;
use crate::{config::ConfigError, error::Error};

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to tell; the exit code follows from its reason.
    Problem(Problem),
    /// As a problem, of something that does not exist.
    NotFound(Problem),
    /// Everything was told already; 1 to 255.
    Told(u8),
    /// Nobody reads our output any more, as after `| head`: no failure of ours.
    BrokenPipe,
}

/// What `-o json` writes to stderr.
#[derive(Serialize)]
struct ProblemView<'a> {
    reason: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Failure {
    /// A failure of this process or machine.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Problem::new(Reason::Internal, detail).into()
    }

    /// Tells of a problem with this field that what it names does not exist:
    /// the reasons have none for some things, and the exit code has to say it.
    pub(crate) fn unknown(self, field: &str) -> Self {
        match self {
            Self::Problem(problem) if problem.field.as_deref() == Some(field) => {
                Self::NotFound(problem)
            }
            other => other,
        }
    }

    /// Tells it on stderr, in the form that the caller asked for.
    pub(crate) fn report(&self, format: Format) -> ExitCode {
        match self {
            Self::Problem(problem) | Self::NotFound(problem) => {
                // a stderr that is gone leaves only the exit code to tell
                let _ = write_problem(&mut io::stderr().lock(), problem, format);
                ExitCode::from(match self {
                    Self::NotFound(_) => Code::NotFound.exit(),
                    _ => problem.reason.code().exit(),
                })
            }
            Self::Told(code) => ExitCode::from(*code),
            Self::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}

fn write_problem(out: &mut impl Write, problem: &Problem, format: Format) -> io::Result<()> {
    if format == Format::Json {
        let view = ProblemView {
            reason: problem.reason.as_str(),
            detail: &problem.detail,
            field: problem.field.as_deref(),
        };
        serde_json::to_writer(&mut *out, &view)?;
        return writeln!(out);
    }
    writeln!(out, "error: {}", problem.detail)?;
    writeln!(out, "reason: {}", problem.reason)?;
    match &problem.field {
        Some(field) => writeln!(out, "field: {field}"),
        None => Ok(()),
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let problem = Problem::new(Reason::InvalidArgument, error.to_string());
        match error {
            ConfigError::Invalid { key, .. } => problem.at(key).into(),
            _ => problem.into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // the person at this terminal is the one who reads the log
        let mut problem = error.problem().clone();
        if let Some(cause) = error.cause() {
            problem.detail = format!("{}: {cause}", problem.detail);
        }
        problem.into()
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::internal(format!("cannot write the output: {error}"))
    }
}

impl Failed for Failure {
    /// A server that is away, or too busy, for a while.
    fn passing(&self) -> Option<String> {
        match self {
            Self::Problem(problem) if matches!(problem.reason.code().exit(), 6 | 7) => {
                Some(format!("error: {}", problem.detail))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(format: Format) -> String {
        let mut out = Vec::new();
        let problem = Problem::new(Reason::UnknownAgent, "there is no agent `x`").at("agent_id");
        write_problem(&mut out, &problem, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn people_read_lines_and_programs_read_json() {
        let lines = "error: there is no agent `x`\nreason: UNKNOWN_AGENT\nfield: agent_id\n";
        assert_eq!(told(Format::Table), lines);
        let json: serde_json::Value = serde_json::from_str(&told(Format::Json)).unwrap();
        assert_eq!(json["reason"], "UNKNOWN_AGENT");
        assert_eq!(json["field"], "agent_id");
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(matches!(failure, Failure::BrokenPipe));
    }
}
