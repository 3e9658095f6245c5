//! For tests: a log with its key, as it is exported and proved.

use std::collections::BTreeMap;

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

use super::line::{Header, Leaf, Line};

pub(super) const ORIGIN: &str = "example.org/audit/0f0e0d0c0b0a09080706050403020100";

/// A key pair of its own.
pub(super) fn signer() -> CheckpointSigner {
    let pair = Ed25519KeyPair::generate().unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    CheckpointSigner::from_pkcs8(der.as_ref()).unwrap()
}

/// A log of some entries.
pub(super) struct TestLog {
    pub(super) signer: CheckpointSigner,
    pub(super) leaves: Vec<Vec<u8>>,
    tiles: BTreeMap<TileId, Vec<u8>>,
    roots: Vec<Hash>,
}

impl TestLog {
    pub(super) fn of(size: u64) -> Self {
        let leaves: Vec<_> = (0..size).map(leaf).collect();
        let mut frontier = Frontier::default();
        let (mut tiles, mut roots) = (BTreeMap::new(), vec![frontier.root()]);
        for leaf in &leaves {
            tiles.extend(frontier.append(&[leaf_hash(leaf)]).unwrap());
            roots.push(frontier.root());
        }
        Self {
            signer: signer(),
            leaves,
            tiles,
            roots,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.leaves.len().try_into().unwrap()
    }

    pub(super) fn root(&self, size: u64) -> Hash {
        self.roots[usize::try_from(size).unwrap()]
    }

    /// A signed head of that size.
    pub(super) fn checkpoint(&self, size: u64) -> String {
        self.signed(ORIGIN, size, self.root(size))
    }

    /// Any head, signed.
    pub(super) fn signed(&self, origin: &str, size: u64, root: Hash) -> String {
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root,
        };
        self.signer.sign(&checkpoint).unwrap()
    }

    pub(super) fn header(&self) -> Header {
        Header {
            origin: ORIGIN.to_owned(),
            epoch: 1,
            begun_at: "2026-01-31T08:00:00Z".to_owned(),
            verifier_keys: vec![self.signer.verifier_key(ORIGIN).to_string()],
        }
    }

    /// The lines of an export, without their ends.
    pub(super) fn lines(&self) -> Vec<String> {
        let entries = (0..).zip(&self.leaves).map(|(index, leaf)| {
            let text = String::from_utf8(leaf.clone()).unwrap();
            Line::Leaf {
                index,
                leaf: Leaf::entry(&text).unwrap(),
            }
            .text()
        });
        let mut lines = vec![self.header().text()];
        lines.extend(entries);
        lines.push(Line::Checkpoint(self.checkpoint(self.size())).text());
        lines
    }

    pub(super) fn inclusion(&self, index: u64, size: u64) -> Vec<Vec<u8>> {
        let tiles = self.tiles(inclusion_tiles(size, index));
        bytes(prove_inclusion(&tiles, size, index).unwrap())
    }

    pub(super) fn consistency(&self, from: u64, to: u64) -> Vec<Vec<u8>> {
        let tiles = self.tiles(consistency_tiles(from, to));
        bytes(prove_consistency(&tiles, from, to).unwrap())
    }

    fn tiles(&self, ids: Vec<TileId>) -> Tiles {
        let tiles = ids.into_iter().map(|id| (id, self.tiles[&id].clone()));
        tiles.collect()
    }
}

fn bytes(hashes: Vec<Hash>) -> Vec<Vec<u8>> {
    hashes.into_iter().map(|hash| hash.0.to_vec()).collect()
}

/// An entry as it is hashed.
fn leaf(sequence: u64) -> Vec<u8> {
    let leaf = AuditLeaf {
        action: "grant.request".into(),
        agent_id: Some("data_analyst".into()),
        caller: "agent:data_analyst".into(),
        count: 1,
        key_id: None,
        machine_id: None,
        occurred_at: "2026-01-31T08:00:00.000001Z".into(),
        outcome: "denied".into(),
        peer_address: None,
        reason: Some("SCORE_TOO_LOW".into()),
        request_id: None,
        sequence,
        subject: format!("grt_{sequence} \"é\"\t"),
        trace_id: None,
        zone: None,
    };
    leaf.to_bytes()
}
