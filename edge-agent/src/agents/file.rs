//! The table on disk, so that a restart finds it without the control plane.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Agent;

/// The file's form; another one is not read.
const VERSION: u32 = 1;

/// What the file says of one agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) agent: Agent,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    agents: Vec<Line>,
}

/// The file of agents cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading or writing failed.
    #[error("cannot use `{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has been changed or damaged.
    #[error(
        "`{path}` is damaged; remove it: the control plane tells this edge again which agents it has"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// What was written last; nothing where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, FileError> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        outcome => outcome.map_err(|source| failed(path, source))?,
    };
    let damaged = || FileError::Damaged {
        path: path.to_owned(),
    };
    let content: Content = serde_json::from_slice(&text).map_err(|_| damaged())?;
    if content.version == VERSION {
        Ok(content.agents)
    } else {
        Err(damaged())
    }
}

/// Replaces the file, for its owner only: after a crash it is the old one or the
/// new.
pub(super) fn write(path: &Path, agents: Vec<Line>) -> Result<(), FileError> {
    let content = Content {
        version: VERSION,
        agents,
    };
    replace(path, &content).map_err(|source| failed(path, source))
}

fn replace(path: &Path, content: &Content) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let mut file = io::BufWriter::new(file);
    serde_json::to_writer(&mut file, content)?;
    file.flush()?;
    file.get_ref().sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn failed(path: &Path, source: io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        source,
    }
}
