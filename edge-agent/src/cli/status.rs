//! `edge-agent status`

use std::process::ExitCode;

use authguardian_proto::reason::Reason;
use authguardian_terminal::{Sight, WatchArgs, watch};
use clap::Args;
use serde_json::Value;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
Exit code 6 when the control plane is not heard.

Examples:
  edge-agent status -o json
  edge-agent status --watch=5";

/// Show how the running edge is
#[derive(Debug, Args)]
#[command(
    after_help = AFTER_HELP
)]
pub(super) struct Status {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    watch: WatchArgs,
}

impl Status {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        if let Some(every) = self.watch.interval() {
            watch(every, self.format.is_document(), async || {
                self.sight().await
            })
            .await?;
            return Ok(ExitCode::SUCCESS);
        }
        let readiness = self.client.look("/readyz").await?;
        print(self.format, &readiness)?;
        let ready = readiness["ready"].as_bool().unwrap_or_default();
        Ok(ExitCode::from(if ready {
            0
        } else {
            Reason::Unavailable.code().exit()
        }))
    }

    /// One look of many. How stale its knowledge is, how much it does and how far
    /// the audit log has come changes all the time, and is no news while the edge
    /// is ready.
    async fn sight(&self) -> Result<Sight, Failure> {
        let mut readiness = self.client.look("/readyz").await?;
        let text = self.format.text_of_many(&readiness)?;
        if let Some(fields) = readiness.as_object_mut() {
            fields.remove("staleness_ms");
            fields.remove("tasks");
            if let Some(log) = fields.get_mut("audit_log").and_then(Value::as_object_mut) {
                log.remove("size");
                log.remove("kept_at");
            }
        }
        Ok(Sight {
            text,
            hint: None,
            compared: Some(readiness.to_string()),
        })
    }
}
