//! `manifest.json`: what a backup is of.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{facts::Facts, files};
use crate::error::{Error, Result};

/// The file's name in the directory.
const FILE: &str = "manifest.json";

/// The dump's.
pub(super) const DUMP: &str = "database.dump";

/// The form that is written, and read.
const FORMAT: u32 = 1;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this file.
    pub format: u32,
    /// The program that made it.
    pub program_version: String,
    /// When, by the control plane's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// PostgreSQL's major version there.
    pub postgres_version: u32,
    /// What the database held.
    pub facts: Facts,
    /// The dump.
    pub dump: Dump,
}

/// The dump of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Its name in the directory.
    pub file: String,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Length.
    pub bytes: u64,
}

impl Manifest {
    /// Of a dump that was made now.
    pub(super) fn new(
        now: OffsetDateTime,
        postgres_version: u32,
        facts: Facts,
        dump: Dump,
    ) -> Self {
        Self {
            format: FORMAT,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: now,
            postgres_version,
            facts,
            dump,
        }
    }

    /// Reads that of a directory.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let refused = |detail: String| Error::invalid("input", detail);
        let text = fs::read_to_string(&path)
            .map_err(|error| refused(format!("`{}`: {error}", path.display())))?;
        let unreadable = |error: serde_json::Error| {
            refused(format!(
                "`{}` is no manifest of a backup: {error}",
                path.display()
            ))
        };
        let any: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
        let format = any.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            return Err(refused(format!(
                "`{}` is not of a form that this program reads, which is {FORMAT}",
                path.display()
            )));
        }
        let manifest: Self = serde_json::from_value(any).map_err(unreadable)?;
        if manifest.dump.file != DUMP {
            return Err(refused(format!(
                "`{}` names another dump than `{DUMP}`",
                path.display()
            )));
        }
        Ok(manifest)
    }

    /// Writes it.
    pub(super) fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(Error::internal)?;
        files::write(&directory.join(FILE), &(text + "\n"))
    }
}
