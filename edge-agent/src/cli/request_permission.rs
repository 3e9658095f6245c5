//! `edge-agent request-permission`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
Exit code 4 when the request is denied, 8 while it waits for approval.

Example:
  AUTHGUARDIAN_API_KEY=agk_… edge-agent request-permission --agent data_analyst \\
      --resource SAP_API --justification \"Q4 analysis task\"";

/// Ask for a grant
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RequestPermission {
    /// Agent on whose behalf
    #[arg(long, value_name = "ID")]
    agent: String,
    /// Resource type
    #[arg(long, value_name = "NAME")]
    resource: String,
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT")]
    justification: String,
    /// What exactly, such as `read:invoices`
    #[arg(long)]
    scope: Option<String>,
    /// How long, seconds
    #[arg(long, value_name = "SECONDS")]
    ttl_seconds: Option<u32>,
    /// Your own id of this request; repeating it returns the first outcome
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl RequestPermission {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let arguments = json!({
            "agent_id": self.agent,
            "resource_type": self.resource,
            "justification": self.justification,
            "scope": self.scope,
            "ttl_seconds": self.ttl_seconds,
            "request_id": self.request_id,
        });
        let result = self.client.call("request_permission", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::from(match result["decision"].as_str() {
            Some("granted") => 0,
            Some("pending") => 8,
            _ => 4,
        }))
    }
}
