//! `edge-agent deregister`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
Only the API key that registered it can, on the machine that it was registered through.

Example:
  AUTHGUARDIAN_API_KEY=agk_… edge-agent deregister --agent invoice_reader";

/// Take an agent out of the registry
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Deregister {
    /// Agent to take out
    #[arg(long, value_name = "ID")]
    agent: String,
    /// Your own id of this request; repeating it returns the first outcome
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Deregister {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let arguments = json!({ "agent_id": self.agent, "request_id": self.request_id });
        let result = self.client.call("deregister_agent", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::SUCCESS)
    }
}
