//! Logs that were made up, with keys of their own, as files that are verified.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use authguardian_proto::{
    audit_leaf::AuditLeaf,
    checkpoint::{Checkpoint, CheckpointSigner},
    merkle::{
        Frontier, Hash, TileId, Tiles, consistency_tiles, inclusion_tiles, leaf_hash,
        prove_consistency, prove_inclusion,
    },
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::Ed25519KeyPair,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(super) const ORIGIN: &str = "example.org/audit/0f0e0d0c0b0a09080706050403020100";

/// A log whose leaves can be anything.
pub(super) struct Made {
    pub(super) leaves: Vec<Vec<u8>>,
    signer: CheckpointSigner,
    files: TempDir,
}

impl Made {
    pub(super) fn of(size: u64) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        Self {
            leaves: (0..size)
                .map(|sequence| leaf(sequence).to_bytes())
                .collect(),
            signer: CheckpointSigner::from_pkcs8(der.as_ref()).unwrap(),
            files: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.leaves.len().try_into().unwrap()
    }

    /// The verifier key, as text.
    pub(super) fn key(&self) -> String {
        self.signer.verifier_key(ORIGIN).to_string()
    }

    /// The head of the first so many leaves, signed.
    pub(super) fn checkpoint(&self, size: u64) -> String {
        self.signed(ORIGIN, size, self.tree(size).1.root())
    }

    pub(super) fn signed(&self, origin: &str, size: u64, root: Hash) -> String {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root,
        };
        self.signer.sign(&checkpoint).unwrap()
    }

    /// The lines of an export.
    pub(super) fn lines(&self) -> Vec<String> {
        let log = json!({"origin": ORIGIN, "epoch": 1, "begun_at": "2026-01-31T08:00:00Z", "verifier_keys": [self.key()]});
        let mut lines = vec![json!({ "log": log }).to_string()];
        for (index, leaf) in self.leaves.iter().enumerate() {
            let entry = std::str::from_utf8(leaf).unwrap();
            lines.push(format!("{{\"index\":{index},\"entry\":{entry}}}"));
        }
        lines.push(end(&self.checkpoint(self.size())));
        lines
    }

    /// A file of these lines.
    pub(super) fn export(&self, lines: &[String]) -> PathBuf {
        let text: String = lines
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect();
        self.file("export.jsonl", text.as_bytes())
    }

    pub(super) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn path(&self) -> &Path {
        self.files.path()
    }

    /// A proof that an entry is in the log.
    pub(super) fn inclusion(&self, index: u64) -> Value {
        let size = self.size();
        let leaf = &self.leaves[usize::try_from(index).unwrap()];
        let tiles = only(self.tree(size).0, inclusion_tiles(size, index));
        json!({
            "proof": "inclusion",
            "origin": ORIGIN,
            "index": index,
            "entry": serde_json::from_slice::<Value>(leaf).unwrap(),
            "leaf": BASE64_STANDARD.encode(leaf),
            "leaf_hash": leaf_hash(leaf).to_string(),
            "path": texts(&prove_inclusion(&tiles, size, index).unwrap()),
            "checkpoint": self.checkpoint(size),
            "verifier_keys": [self.key()],
        })
    }

    /// A proof that the log of one size is the beginning of that of another.
    pub(super) fn consistency(&self, from: u64, to: u64) -> Value {
        let size = self.size();
        let path = |from, to| {
            let tiles = only(self.tree(to).0, consistency_tiles(from, to));
            texts(&prove_consistency(&tiles, from, to).unwrap())
        };
        json!({
            "proof": "consistency",
            "origin": ORIGIN,
            "from_size": from,
            "from_root": self.tree(from).1.root().to_string(),
            "to_size": to,
            "to_root": self.tree(to).1.root().to_string(),
            "path": path(from, to),
            "path_to_checkpoint": path(to, size),
            "checkpoint": self.checkpoint(size),
            "verifier_keys": [self.key()],
        })
    }

    pub(super) fn root(&self, size: u64) -> Hash {
        self.tree(size).1.root()
    }

    fn tree(&self, size: u64) -> (BTreeMap<TileId, Vec<u8>>, Frontier) {
        let size = usize::try_from(size).unwrap();
        let leaves: Vec<_> = self.leaves[..size]
            .iter()
            .map(|leaf| leaf_hash(leaf))
            .collect();
        let mut frontier = Frontier::default();
        (frontier.append(&leaves).unwrap(), frontier)
    }
}

/// The last line of an export.
pub(super) fn end(note: &str) -> String {
    json!({ "checkpoint": note }).to_string()
}

fn only(mut tiles: BTreeMap<TileId, Vec<u8>>, ids: Vec<TileId>) -> Tiles {
    let tiles = ids.into_iter().map(|id| (id, tiles.remove(&id).unwrap()));
    tiles.collect()
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(ToString::to_string).collect()
}

/// An entry with all that can stand in one, and characters that are written in
/// more than one way.
fn leaf(sequence: u64) -> AuditLeaf {
    AuditLeaf {
        action: "grant.request".into(),
        agent_id: Some("data_analyst".into()),
        caller: "agent:data_analyst".into(),
        count: 9_007_199_254_740_991 - sequence,
        key_id: sequence
            .is_multiple_of(2)
            .then(|| "apk_0000000000000000000007".into()),
        machine_id: Some("mch_0000000000000000000007".into()),
        occurred_at: "2026-01-31T08:00:00.000001Z".into(),
        outcome: "denied".into(),
        peer_address: Some("2001:db8::7".into()),
        reason: Some("SCORE_TOO_LOW".into()),
        request_id: Some(format!("r-{sequence}")),
        sequence,
        subject: "a\"b\\c\u{1}\u{8}\u{c}\n\r\t\u{1f}\u{7f}/é\u{2028}😀".into(),
        trace_id: None,
        zone: Some("local_machine".into()),
    }
}
