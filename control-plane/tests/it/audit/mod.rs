//! The audit log as one that proves itself, on a real PostgreSQL.

mod cli;
mod exports;
mod files;
mod made;
mod proofs;
mod reading;
mod sealing;
mod tampering;
mod verdict;

use crate::{
    records::request,
    rig::{Rig, admin},
    wait::{DEADLINE, until_async},
};
use authguardian_proto::checkpoint::VerifierKey;
use control_plane::{
    audit::{
        self, Entry, Outcome,
        export::{Export, Leaf},
        log::{Log, Signed, verifier_keys},
        verify::{Finding, Outside, Verification},
    },
    identity::Purpose,
};

/// An act that nothing else does; its number is its subject.
pub(crate) fn act(number: i64) -> Entry {
    let entry = Entry::ok(request(""), "test.act", number.to_string());
    if number % 7 == 3 {
        entry.not_ok(Outcome::Denied, None)
    } else {
        entry
    }
}

/// A log from its first leaf to its newest checkpoint.
pub(crate) async fn exported(rig: &Rig, origin: &str) -> (Option<String>, Vec<Leaf>) {
    let mut export = Export::begin(rig.app.db.clone(), origin, 0).await.unwrap();
    let mut leaves = Vec::new();
    loop {
        let (first, more) = export.read().await.unwrap();
        assert_eq!(Ok(first), i64::try_from(leaves.len()));
        if more.is_empty() {
            return (export.signed().map(|signed| signed.note.clone()), leaves);
        }
        leaves.extend(more);
    }
}

impl Rig {
    pub(crate) async fn append(&self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut tx = self.app.db.begin().await.unwrap();
        audit::append(&mut tx, self.app.ambient.clock.now(), &entries)
            .await
            .unwrap();
        self.app.db.commit(tx).await.unwrap();
    }

    /// Waits until everything is under a signed head.
    pub(crate) async fn signed(&self) -> (Log, Signed) {
        let waited = async {
            loop {
                if let Some(found) = self.signed_now().await {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let found = tokio::time::timeout(DEADLINE, waited).await;
        found.expect("the log was not signed")
    }

    async fn signed_now(&self) -> Option<(Log, Signed)> {
        let mut connection = self.app.db.read().await.unwrap();
        let pending = audit::pending_count(&mut connection).await.unwrap();
        let log = audit::log::logs(&mut connection).await.unwrap().pop()?;
        let signed = audit::newest_checkpoint(&mut connection, &log)
            .await
            .unwrap()?;
        (pending == 0 && signed.head == log.head).then_some((log, signed))
    }

    pub(crate) async fn keys_of(&self, origin: &str) -> Vec<VerifierKey> {
        verifier_keys(origin, &self.app.identity.checkpoint_keys().await.unwrap())
    }

    /// What a verification finds, against a checkpoint from outside or none.
    pub(crate) async fn verify(&self, checkpoint: &str) -> Vec<Finding> {
        let outside = Outside {
            checkpoint: checkpoint.to_owned(),
            public_keys: self.app.identity.checkpoint_keys().await.unwrap(),
        };
        let db = self.app.db.clone();
        let mut verification = Verification::begin(db, "", outside).await.unwrap();
        let mut findings = Vec::new();
        while let Some(mut progress) = verification.step().await.unwrap() {
            findings.append(&mut progress.findings);
        }
        findings
    }

    /// Kinds and indexes of what a verification finds.
    pub(crate) async fn found(&self) -> Vec<(&'static str, Option<i64>)> {
        let found = self.verify("").await;
        found
            .iter()
            .map(|finding| (finding.kind.as_str(), finding.index))
            .collect()
    }

    pub(crate) async fn rotate_audit_key(&self) {
        let identity = &self.app.identity;
        // keys are told apart by age
        self.clock.advance(std::time::Duration::from_secs(1));
        let made = identity
            .prepare_signing_key(admin(), Purpose::Audit)
            .await
            .unwrap();
        identity
            .activate_signing_key(admin(), made.id, true)
            .await
            .unwrap();
        until_async("the new key signs", async || {
            let signer = control_plane::audit::log::CheckpointKeys::signer(identity).unwrap();
            let keys = self.keys_of("x").await;
            keys.last() == Some(&signer.verifier_key("x"))
        })
        .await;
    }
}
