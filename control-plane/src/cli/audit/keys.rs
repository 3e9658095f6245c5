//! The keys that a file is checked with, and whose word they are.

use authguardian_proto::checkpoint::{Checkpoint, VerifierKey};
use serde::Serialize;

use super::misfit::Misfit;

/// Where keys came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeysFrom {
    /// From whoever checks: what they have signed is the log's.
    Given,
    /// From the file that is checked: whoever made it up chose them too.
    File,
}

/// Keys that checkpoints are checked with.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<VerifierKey>,
    pub(super) from: KeysFrom,
}

impl Keys {
    /// The given ones, or without any those of the file.
    pub(super) fn choose(given: &[VerifierKey], of_file: &[String]) -> Result<Self, Misfit> {
        if !given.is_empty() {
            return Ok(Self {
                known: given.to_vec(),
                from: KeysFrom::Given,
            });
        }
        let known = of_file.iter().map(|text| text.parse());
        Ok(Self {
            known: known
                .collect::<Result<_, _>>()
                .map_err(|error| Misfit::new(format!("a verifier key is none: {error}")))?,
            from: KeysFrom::File,
        })
    }

    /// Reads a checkpoint that one of the keys has signed.
    pub(super) fn open(&self, note: &str, what: &str) -> Result<Checkpoint, Misfit> {
        Checkpoint::open(note, &self.known)
            .map_err(|error| Misfit::new(format!("{what} does not count: {error}")))
    }
}
