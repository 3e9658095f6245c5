//! `agents.json`: the agents of this edge, for its next start.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::Registered;
use crate::files;

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
    let Some(text) = files::read(path)? else {
        return Ok(Vec::new());
    };
    let kept: Kept = serde_json::from_slice(&text)?;
    Ok(kept.agents)
}

/// Replaces the file whole, so that a crash leaves the old or the new one.
pub(super) fn store(path: &Path, agents: &[Registered]) -> io::Result<()> {
    files::replace(path, &serde_json::to_vec(&Keeping { agents })?)
}
