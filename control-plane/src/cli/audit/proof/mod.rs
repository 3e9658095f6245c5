//! Proofs as files: what the control plane gives, with all that is needed for
//! checking it elsewhere.

mod consistency;
mod inclusion;
#[cfg(test)]
mod tests;

use std::path::Path;

use authguardian_proto::{
    checkpoint::{Checkpoint, VerifierKey},
    merkle::{Hash, hash_of},
};
use serde::{Deserialize, Serialize};

pub(super) use self::{consistency::Consistency, inclusion::Inclusion};
use super::{
    Client,
    keys::{Keys, KeysFrom},
    line::hash_in,
    log,
    misfit::Misfit,
};
use crate::cli::{
    failure::Failure,
    files::write_private,
    output::{note, write_stdout},
};

/// What a proof proves, once it was checked.
#[derive(Debug, Serialize)]
pub(super) struct Proved {
    pub(super) fits: bool,
    pub(super) proof: Kind,
    pub(super) origin: String,
    /// Sizes whose roots the proof leads to.
    pub(super) sizes: Vec<u64>,
    /// Whether a checkpoint from outside has one of these roots.
    pub(super) outside_checkpoint: bool,
    /// Whose keys the checkpoint was checked with.
    pub(super) keys_from: KeysFrom,
    /// One sentence.
    pub(super) sentence: String,
}

/// Of which kind a proof is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// An entry is in the log.
    Inclusion,
    /// The log of one size is the beginning of that of another.
    Consistency,
}

#[derive(Deserialize)]
struct AnyProof {
    proof: Kind,
}

/// What every proof is checked with.
struct Basis {
    keys: Keys,
    checkpoint: Checkpoint,
}

/// Checks the text of a proof; `outside` is a checkpoint that was kept elsewhere.
pub(super) fn check(
    text: &str,
    outside: Option<&str>,
    given: &[VerifierKey],
) -> Result<Proved, Misfit> {
    let unreadable = |error: serde_json::Error| Misfit::new(format!("not a proof: {error}"));
    let any: AnyProof = serde_json::from_str(text).map_err(unreadable)?;
    match any.proof {
        Kind::Inclusion => {
            let proof: Inclusion = serde_json::from_str(text).map_err(unreadable)?;
            proof.check(outside, given)
        }
        Kind::Consistency => {
            let proof: Consistency = serde_json::from_str(text).map_err(unreadable)?;
            proof.check(outside, given)
        }
    }
}

impl Basis {
    fn of(
        note: &str,
        origin: &str,
        own_keys: &[String],
        given: &[VerifierKey],
    ) -> Result<Self, Misfit> {
        let keys = Keys::choose(given, own_keys)?;
        let checkpoint = keys.open(note, "the checkpoint")?;
        if checkpoint.origin != origin {
            let other = &checkpoint.origin;
            let detail = format!("the checkpoint is of the log `{other}`, the proof of `{origin}`");
            return Err(Misfit::new(detail));
        }
        Ok(Self { keys, checkpoint })
    }

    /// Compares a checkpoint from outside with the roots that the proof leads
    /// to.
    fn compare(&self, outside: Option<&str>, heads: &[(u64, Hash)]) -> Result<bool, Misfit> {
        const OUTSIDE: &str = "the outside checkpoint";
        let Some(note) = outside else {
            return Ok(false);
        };
        let outside = self.keys.open(note, OUTSIDE)?;
        if outside.origin != self.checkpoint.origin {
            let detail = format!("{OUTSIDE} is of the log `{}`", outside.origin);
            return Err(Misfit::new(detail));
        }
        match heads.iter().find(|(size, _)| *size == outside.size) {
            Some((_, root)) if *root == outside.root => Ok(true),
            Some((size, root)) => Err(Misfit::new(format!(
                "the root of {size} entries is {root}, {OUTSIDE} has {}",
                outside.root
            ))),
            None => Err(Misfit::new(format!(
                "{OUTSIDE} is of {} entries, of which the proof says nothing",
                outside.size
            ))),
        }
    }
}

/// The verifier keys of the log that a checkpoint is of, as the control plane
/// tells them, and the log's origin.
pub(super) async fn keys_of(client: Client, note: &str) -> Result<(String, Vec<String>), Failure> {
    let checkpoint = Checkpoint::read_unverified(note)
        .map_err(|error| Failure::internal(format!("the control plane's checkpoint: {error}")))?;
    let logs = log::get(client).await?.logs;
    let log = logs.into_iter().find(|log| log.origin == checkpoint.origin);
    let log = log.ok_or_else(|| {
        let origin = &checkpoint.origin;
        Failure::internal(format!(
            "the control plane has a checkpoint of `{origin}`, and no such log"
        ))
    })?;
    Ok((checkpoint.origin, log.verifier_keys))
}

/// Checks a proof as whoever gets it will, and writes it: to a file, or to
/// stdout.
pub(super) fn hand_out(proof: &impl Serialize, file: Option<&Path>) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(proof)
        .map_err(|error| Failure::internal(format!("the proof cannot be written: {error}")))?;
    let proved = check(&text, None, &[]);
    let proved = proved.map_err(|misfit| {
        Failure::internal(format!("the control plane's proof does not hold: {misfit}"))
    })?;
    match file {
        None => write_stdout(&format!("{text}\n"))?,
        Some(path) => write_private(path, &format!("{text}\n"))?,
    }
    note(&proved.sentence)
}

/// Reads the hash in a message.
fn hash_in_message(bytes: &[u8]) -> Result<String, Failure> {
    let hash = hash_of(bytes);
    hash.map(|hash| hash.to_string())
        .ok_or_else(|| Failure::internal("the control plane sent a hash that is not of 32 bytes"))
}

fn hashes_in_message(hashes: &[Vec<u8>]) -> Result<Vec<String>, Failure> {
    hashes.iter().map(|hash| hash_in_message(hash)).collect()
}

/// Reads a hash in a file.
fn hash(text: &str, what: &str) -> Result<Hash, Misfit> {
    hash_in(text).ok_or_else(|| Misfit::new(format!("{what} is not 32 bytes in base64: `{text}`")))
}

fn hashes(texts: &[String], what: &str) -> Result<Vec<Hash>, Misfit> {
    texts.iter().map(|text| hash(text, what)).collect()
}
