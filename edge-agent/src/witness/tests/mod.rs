//! A witness beside logs whose trees and keys are real.

mod disk;
mod judgement;
mod restores;

use std::{path::Path, sync::Arc};

use authguardian_proto::{
    audit::v1::{EndedLog, WitnessCheckpointResponse},
    checkpoint::{Checkpoint, CheckpointSigner},
    ids::MachineId,
    merkle::{Frontier, Hash, Tiles, leaf_hash, prove_consistency},
};
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    signature::Ed25519KeyPair,
};

use super::{Alarm, Witness};
use crate::clock::manual::ManualClock;

pub(super) const FIRST: &str = "example.org/audit/00000000000000000000000000000001";
pub(super) const SECOND: &str = "example.org/audit/00000000000000000000000000000002";

/// A log that grows.
pub(super) struct Log {
    pub(super) origin: &'static str,
    pub(super) signer: Arc<CheckpointSigner>,
    frontier: Frontier,
    tiles: Tiles,
}

impl Log {
    /// An empty one with a key of its own.
    pub(super) fn new(origin: &'static str) -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let signer = CheckpointSigner::from_pkcs8(der.as_ref()).unwrap();
        Self {
            origin,
            signer: Arc::new(signer),
            frontier: Frontier::load(0, |_| None).unwrap(),
            tiles: Tiles::default(),
        }
    }

    /// Another log that is signed with the same key.
    pub(super) fn beside(&self, origin: &'static str) -> Self {
        Self {
            signer: self.signer.clone(),
            ..Self::new(origin)
        }
    }

    /// Appends so many entries, each of this text.
    pub(super) fn grow(mut self, text: &str, entries: usize) -> Self {
        let leaves = vec![leaf_hash(text.as_bytes()); entries];
        for (id, hashes) in self.frontier.append(&leaves).unwrap() {
            self.tiles.insert(id, hashes);
        }
        self
    }

    pub(super) fn head(&self) -> Checkpoint {
        Checkpoint {
            origin: self.origin.to_owned(),
            size: self.frontier.size(),
            root: self.frontier.root(),
        }
    }

    pub(super) fn proof(&self, from: u64) -> Vec<Vec<u8>> {
        let proof = prove_consistency(&self.tiles, from, self.frontier.size());
        let bytes = |hash: Hash| hash.0.to_vec();
        proof.unwrap().into_iter().map(bytes).collect()
    }

    /// What the control plane says to whom has kept `from` entries of it.
    pub(super) fn answer(&self, from: Option<u64>) -> WitnessCheckpointResponse {
        WitnessCheckpointResponse {
            checkpoint: self.signer.sign(&self.head()).unwrap(),
            proof: from.map(|from| self.proof(from)).unwrap_or_default(),
            verifier_keys: vec![self.signer.verifier_key(self.origin).to_string()],
            ended: None,
        }
    }

    /// How it has ended, to whom has kept `from` entries of it.
    pub(super) fn ended(&self, from: u64, next: &Self) -> EndedLog {
        let head = self.head();
        EndedLog {
            size: head.size,
            root: head.root.0.to_vec(),
            proof: if from <= head.size {
                self.proof(from)
            } else {
                Vec::new()
            },
            next_origin: next.origin.to_owned(),
        }
    }

    /// The answer of the log after this one.
    pub(super) fn gone_over(&self, from: u64, next: &Self) -> WitnessCheckpointResponse {
        WitnessCheckpointResponse {
            ended: Some(self.ended(from, next)),
            ..next.answer(None)
        }
    }
}

pub(super) fn machine(number: u128) -> MachineId {
    MachineId::from_uuid(uuid::Uuid::from_u128(number))
}

/// The witness of a directory, as machine 1.
pub(super) fn open(dir: &Path) -> Arc<Witness> {
    open_as(dir, machine(1))
}

pub(super) fn open_as(dir: &Path, machine_id: MachineId) -> Arc<Witness> {
    let (_, ambient) = ManualClock::ambient();
    Witness::open(dir, machine_id, ambient).unwrap()
}

/// Entries of the log that is kept.
pub(super) fn size(witness: &Witness) -> Option<u64> {
    witness.status().and_then(|status| status.size)
}

/// What is refused.
pub(super) fn refused(witness: &Witness) -> Option<String> {
    witness.status().and_then(|status| status.refused)
}

/// What came of an answer: an alarm's reason.
pub(super) async fn take(witness: &Arc<Witness>, told: WitnessCheckpointResponse) -> String {
    let alarm = witness.take(told).await;
    alarm.map_or_else(String::new, |Alarm { reason }| reason.as_str().to_owned())
}
