//! PostgreSQL's `pg_dump` and `pg_restore`.

use std::{ffi::OsStr, path::PathBuf, process::Stdio};

use authguardian_proto::reason::Reason;
use tokio::process::Command;

use super::libpq::Environment;
use crate::{
    db::private_postgres::client_program,
    error::{Error, Result},
};

/// As much of what a program has said as is told.
const SAID: usize = 2000;

/// One of the programs, and the server that it works on.
pub(super) struct Tool {
    name: &'static str,
    program: PathBuf,
    environment: Environment,
    /// Its major version.
    pub(super) version: u32,
}

impl Tool {
    /// Finds it where PostgreSQL's programs are looked for.
    pub(super) async fn find(name: &'static str, environment: Environment) -> Result<Self> {
        let program = client_program(name).ok_or_else(|| {
            failed(format!(
                "`{name}` is not found; install the Debian package `postgresql-client`, or set `PG_BIN_DIR` to its directory"
            ))
        })?;
        let mut tool = Self {
            name,
            program,
            environment,
            version: 0,
        };
        let told = tool.run(["--version"]).await?;
        tool.version = major(&told)
            .ok_or_else(|| failed(format!("`{name} --version` tells no version: `{told}`")))?;
        Ok(tool)
    }

    /// Refuses one that is older than what it has to read.
    pub(super) fn reads(&self, what: &str, major: u32) -> Result<()> {
        if self.version >= major {
            return Ok(());
        }
        Err(failed(format!(
            "`{}` is of PostgreSQL {}, and {what} of {major}: install that version's, or set `PG_BIN_DIR` to its directory",
            self.program.display(),
            self.version,
        )))
    }

    /// The database that it works on.
    pub(super) fn database(&self) -> &str {
        &self.environment.database
    }

    /// Runs it; returns what it wrote to stdout. It ends with this process.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String> {
        let name = self.name;
        let output = Command::new(&self.program)
            .args(arguments)
            .envs(self.environment.variables.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| failed(format!("cannot run `{}`: {error}", self.program.display())))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: String = said.trim().chars().take(SAID).collect();
        Err(failed(format!(
            "`{name}` ended with {}: {said}",
            output.status
        )))
    }
}

/// The major version in what `--version` tells: `pg_dump (PostgreSQL) 15.18 …`.
fn major(told: &str) -> Option<u32> {
    let (_, version) = told.split_once("(PostgreSQL) ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A failure of this machine, told as it is.
pub(super) fn failed(detail: impl Into<String>) -> Error {
    Error::new(Reason::Internal, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_programs_tell_them() {
        for (told, expected) in [
            (
                "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)",
                Some(15),
            ),
            ("pg_restore (PostgreSQL) 17beta2", Some(17)),
            ("pg_dump", None),
            ("pg_dump (PostgreSQL) x", None),
        ] {
            assert_eq!(major(told), expected, "{told}");
        }
    }
}
