//! Watching over the audit log.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{audit::v1::WitnessCheckpointResponse, reason::Problem, zone::Zone};
use tokio_util::sync::CancellationToken;

use super::Core;
use crate::{
    journal::{Call, Outcome},
    witness::{Alarm, Witness},
};

/// Until the first look, at most.
const FIRST: Duration = Duration::from_secs(1);

impl Core {
    /// What is kept of the audit log.
    pub fn witness(&self) -> &Arc<Witness> {
        &self.witness
    }

    /// Takes the newest checkpoint of the audit log about as often as this, until told to stop.
    pub async fn keep_witness(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        if let Some(alarm) = self.witness.opening() {
            self.tell(alarm);
        }
        let mut pause = self.ambient.part_of(every.min(FIRST));
        let asking = async |pause| {
            tokio::time::sleep(pause).await;
            let kept = self.witness.request();
            self.upstream.witness_checkpoint(kept).await
        };
        // what is told is judged to the end: what comes to last is told too
        while let Some(told) = stop.run_until_cancelled(asking(pause)).await {
            self.judge_audit_log(told).await;
            pause = self.ambient.jittered(every);
        }
    }

    async fn judge_audit_log(&self, told: Result<WitnessCheckpointResponse, Problem>) {
        let alarm = match told {
            Ok(told) => self.witness.take(told).await,
            Err(problem) if is_about_what_is_kept(&problem) => self.witness.disowned().await,
            Err(problem) => {
                tracing::debug!(reason = %problem.reason, detail = problem.detail, "the audit log is looked at later");
                None
            }
        };
        if let Some(alarm) = alarm {
            self.tell(alarm);
        }
    }

    /// Notes for the audit log that it is not what this edge has seen.
    fn tell(&self, alarm: Alarm) {
        self.journal.note(Call {
            action: "audit.witness".into(),
            outcome: Outcome::Failed,
            reason: Some(alarm.reason),
            api_key_id: None,
            claimed: None,
            agent_id: None,
            zone: Zone::LocalMachine,
            client: None,
        });
    }
}

/// The control plane does not know the checkpoint that it was shown.
fn is_about_what_is_kept(problem: &Problem) -> bool {
    problem.field.as_deref() == Some("kept")
}
