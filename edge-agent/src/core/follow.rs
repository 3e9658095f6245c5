//! Keeping the verifier up to date: what the streams tell, the public keys,
//! and forgetting what has ended.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{grant_token::Rev, reason::Reason};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::{
    trust::Trust,
    upstream::{Change, Follower, Target},
    verify::{self, Verifier},
};

/// Between readings of the keys that only an unknown key asks for.
const KEYS_SPACING: Duration = Duration::from_secs(1);
/// After the keys could not be read.
const KEYS_RETRY: Duration = Duration::from_millis(200);
/// Between sweeps of what has ended.
const SWEEP: Duration = Duration::from_secs(10);

/// Hands changes to a verifier.
pub struct VerifierFollower(pub Arc<Verifier>);

impl Follower for VerifierFollower {
    fn follow(&self, change: &Change) {
        match change {
            Change::Revoked {
                grant_id, until, ..
            } => self.0.end(*grant_id, Some(*until)),
            Change::RevokedMatching {
                target,
                position,
                until,
            } => {
                let before = Rev {
                    epoch: position.epoch,
                    revision: position.revision,
                };
                self.0
                    .end_matching(predicate(target.clone()), before, *until);
            }
            Change::SigningKeysChanged | Change::Everything => self.0.keys_changed(),
            Change::Grant { .. }
            | Change::ApiKeyRevoked(_)
            | Change::ApiKeyChanged(_)
            | Change::SessionEnded(_)
            | Change::Machine { .. }
            | Change::OtherMachine { .. }
            | Change::Agent { .. }
            | Change::Budget { .. } => {}
        }
    }
}

/// Tells whoever keeps the machine's certificate that what it is to carry, or
/// the CAs, may be different.
pub struct CertificateFollower(pub Arc<Notify>);

impl Follower for CertificateFollower {
    fn follow(&self, change: &Change) {
        if matches!(
            change,
            Change::Machine { .. } | Change::SigningKeysChanged | Change::Everything
        ) {
            self.0.notify_one();
        }
    }
}

/// Tells which other machines may take part no more.
pub struct MachineFollower(pub Arc<Trust>);

impl Follower for MachineFollower {
    fn follow(&self, change: &Change) {
        match change {
            Change::OtherMachine {
                machine_id,
                refused: true,
            } => self.0.refuse(*machine_id, Reason::MachineBanned),
            Change::OtherMachine {
                machine_id,
                refused: false,
            } => self.0.admit(*machine_id),
            _ => {}
        }
    }
}

fn predicate(target: Target) -> verify::Target {
    match target {
        Target::Agent(agent) => verify::Target::Agent(agent),
        Target::Machine(machine) => verify::Target::Machine(machine),
        Target::ResourceType(name) => verify::Target::ResourceType(name),
        Target::Policy(id) => verify::Target::Policy(id),
        Target::Everything => verify::Target::Everything,
    }
}

impl Core {
    /// Reads the public keys whenever that is wished for, until told to stop:
    /// at once where checks wait for it, else no more than once a second.
    pub async fn keep_keys(self: Arc<Self>, stop: CancellationToken) {
        let reading = async {
            let mut spaced = None;
            loop {
                let (_, waited_for) = self.verifier.keys().wished().await;
                if let Some(next) = spaced.filter(|_| !waited_for) {
                    tokio::time::sleep_until(next).await;
                }
                self.read_keys().await;
                spaced = Some(tokio::time::Instant::now() + KEYS_SPACING);
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = reading => {}
        }
    }

    async fn read_keys(&self) {
        loop {
            // all wishes until now are fulfilled by a reading that begins now
            let (wish, _) = self.verifier.keys().wished().await;
            match self.upstream.grant_keys().await {
                Ok(keys) => return self.verifier.keys().take(keys, wish),
                Err(problem) => {
                    tracing::debug!(reason = %problem.reason, detail = problem.detail, "cannot read the public keys");
                }
            }
            tokio::time::sleep(self.ambient.jittered(KEYS_RETRY)).await;
        }
    }

    /// Forgets what has ended, again and again until told to stop.
    pub async fn keep_small(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.ambient.jittered(SWEEP)) => {}
            }
            self.verifier.forget_ended();
            let (tokens, revocations) = self.verifier.kept();
            tracing::trace!(tokens, revocations, "swept");
        }
    }
}
