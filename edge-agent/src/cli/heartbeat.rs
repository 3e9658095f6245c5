//! `edge-agent heartbeat`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
Every other call for the agent is a sign of life too.

Example:
  while AUTHGUARDIAN_API_KEY=agk_… edge-agent heartbeat --agent invoice_reader; do sleep 30; done";

/// Show that a registered agent is there
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Heartbeat {
    /// Agent that is there
    #[arg(long, value_name = "ID")]
    agent: String,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Heartbeat {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let arguments = json!({ "agent_id": self.agent });
        let result = self.client.call("heartbeat", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::SUCCESS)
    }
}
