//! That the log of one size is the beginning of that of a later one.

use authguardian_proto::{
    audit::v1::ProveConsistencyResponse,
    checkpoint::VerifierKey,
    merkle::{Hash, verify_consistency},
};
use serde::{Deserialize, Serialize};

use super::{Basis, Kind, Proved, hash, hash_in_message, hashes, hashes_in_message};
use crate::cli::{audit::misfit::Misfit, failure::Failure};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Consistency {
    proof: Kind,
    origin: String,
    from_size: u64,
    from_root: String,
    to_size: u64,
    to_root: String,
    path: Vec<String>,
    /// From the later size to that of the checkpoint, whose root is signed.
    path_to_checkpoint: Vec<String>,
    checkpoint: String,
    verifier_keys: Vec<String>,
}

impl Consistency {
    /// What the control plane gives: the proof that was asked for, and the one
    /// from its end to the checkpoint.
    pub(crate) fn of(
        from_size: u64,
        found: ProveConsistencyResponse,
        to_checkpoint: &[Vec<u8>],
        (origin, verifier_keys): (String, Vec<String>),
    ) -> Result<Self, Failure> {
        Ok(Self {
            proof: Kind::Consistency,
            origin,
            from_size,
            from_root: hash_in_message(&found.from_root)?,
            to_size: found.to_size,
            to_root: hash_in_message(&found.to_root)?,
            path: hashes_in_message(&found.proof)?,
            path_to_checkpoint: hashes_in_message(to_checkpoint)?,
            checkpoint: found.checkpoint,
            verifier_keys,
        })
    }

    pub(super) fn check(
        &self,
        outside: Option<&str>,
        given: &[VerifierKey],
    ) -> Result<Proved, Misfit> {
        let basis = Basis::of(&self.checkpoint, &self.origin, &self.verifier_keys, given)?;
        let from = (self.from_size, hash(&self.from_root, "`from_root`")?);
        let to = (self.to_size, hash(&self.to_root, "`to_root`")?);
        let end = (basis.checkpoint.size, basis.checkpoint.root);
        step(&hashes(&self.path, "a hash of `path`")?, from, to)?;
        let onward = hashes(&self.path_to_checkpoint, "a hash of `path_to_checkpoint`")?;
        step(&onward, to, end)?;
        let mut sizes = vec![from.0, to.0, end.0];
        sizes.dedup();
        Ok(Proved {
            fits: true,
            proof: Kind::Consistency,
            origin: self.origin.clone(),
            sizes,
            outside_checkpoint: basis.compare(outside, &[from, to, end])?,
            keys_from: basis.keys.from,
            sentence: format!(
                "the log of {} entries is the beginning of that of {}",
                from.0, to.0
            ),
        })
    }
}

fn step(path: &[Hash], from: (u64, Hash), to: (u64, Hash)) -> Result<(), Misfit> {
    verify_consistency(path, from, to).map_err(|error| {
        Misfit::new(format!(
            "the log of {} entries is not shown to be the beginning of that of {}: {error}",
            from.0, to.0
        ))
    })
}
