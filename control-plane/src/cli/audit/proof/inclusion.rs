//! That an entry is in the log.

use authguardian_proto::{
    audit::v1::ProveInclusionResponse,
    audit_leaf::AuditLeaf,
    checkpoint::VerifierKey,
    merkle::{Hash, leaf_hash, verify_inclusion},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::{Basis, Kind, Proved, hash, hash_in_message, hashes, hashes_in_message};
use crate::cli::{audit::misfit::Misfit, failure::Failure};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Inclusion {
    proof: Kind,
    origin: String,
    index: u64,
    /// For reading; `None`: retention has dropped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entry: Option<AuditLeaf>,
    /// What is hashed, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<String>,
    leaf_hash: String,
    /// From the leaf's neighbour to the root.
    path: Vec<String>,
    checkpoint: String,
    verifier_keys: Vec<String>,
}

impl Inclusion {
    /// What the control plane gives.
    pub(crate) fn of(
        index: u64,
        found: ProveInclusionResponse,
        (origin, verifier_keys): (String, Vec<String>),
    ) -> Result<Self, Failure> {
        let has_body = !found.leaf.is_empty();
        let entry = AuditLeaf::from_bytes(&found.leaf);
        if has_body && entry.is_none() {
            let detail = "the control plane sent an entry that is not in canonical JSON";
            return Err(Failure::internal(detail));
        }
        Ok(Self {
            proof: Kind::Inclusion,
            origin,
            index,
            entry,
            leaf: has_body.then(|| BASE64_STANDARD.encode(&found.leaf)),
            leaf_hash: hash_in_message(&found.leaf_hash)?,
            path: hashes_in_message(&found.path)?,
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
        let (size, root) = (basis.checkpoint.size, basis.checkpoint.root);
        let path = hashes(&self.path, "a hash of `path`")?;
        let index = self.index;
        verify_inclusion(&path, (size, root), index, self.leaf()?).map_err(|error| {
            Misfit::new(format!(
                "the entry is not the one at index {index} of the log of {size} entries: {error}"
            ))
        })?;
        Ok(Proved {
            fits: true,
            proof: Kind::Inclusion,
            origin: self.origin.clone(),
            sizes: vec![size],
            outside_checkpoint: basis.compare(outside, &[(size, root)])?,
            keys_from: basis.keys.from,
            sentence: format!("entry {index} is in the log of {size} entries"),
        })
    }

    /// The hash, once what is read is seen to be what is hashed.
    fn leaf(&self) -> Result<Hash, Misfit> {
        let told = hash(&self.leaf_hash, "`leaf_hash`")?;
        let (leaf, entry) = match (&self.leaf, &self.entry) {
            (Some(leaf), Some(entry)) => (leaf, entry),
            (None, None) => return Ok(told),
            _ => return Err(Misfit::new("`leaf` and `entry` go together")),
        };
        let leaf = BASE64_STANDARD.decode(leaf);
        let leaf = leaf.map_err(|_| Misfit::new("`leaf` is not in base64"))?;
        if leaf_hash(&leaf) != told {
            return Err(Misfit::new("`leaf_hash` is not that of `leaf`"));
        }
        if entry.to_bytes() != leaf {
            return Err(Misfit::new("`entry` is not what `leaf` says"));
        }
        Ok(told)
    }
}
