//! `agents.json`: the agents of this edge, for its next start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::Registered;

#[derive(Deserialize)]
struct Kept {
    agents: Vec<Registered>,
}

#[derive(Serialize)]
struct Keeping<'a> {
    agents: &'a [Registered],
}

/// What the file says; nothing where there is none.
pub(super) fn load(path: &Path) -> io::Result<Vec<Registered>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let kept: Kept = serde_json::from_slice(&text)?;
    Ok(kept.agents)
}

/// Replaces the file whole, so that a crash leaves the old or the new one.
pub(super) fn store(path: &Path, agents: &[Registered]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(&Keeping { agents })?)?;
    drop(file);
    fs::rename(beside, path)
}
