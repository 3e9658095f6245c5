//! `edge-agent register`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    agent::{label, labels},
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
What was registered before is replaced. Agents on other machines find it with `edge-agent discover`;
send heartbeats for as long as it runs.

Example:
  AUTHGUARDIAN_API_KEY=agk_… edge-agent register --agent invoice_reader \\
      --capability finance.invoices@1.2 --endpoint http://127.0.0.1:8000/mcp --label region=eu";

/// Register an agent, so that others find it
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Register {
    /// Agent to register; the API key must speak for it
    #[arg(long, value_name = "ID")]
    agent: String,
    /// What it can do; can be given more than once
    #[arg(long = "capability", value_name = "NAME[@VERSION]")]
    capabilities: Vec<String>,
    /// Its MCP server, as this machine reaches it
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// For choosing among agents; can be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Be trusted no further than this, 0 to 1000
    #[arg(long, value_name = "LEVEL")]
    trust_level: Option<u32>,
    /// Seconds without a sign of life until it is suspect
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

impl Register {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let arguments = json!({
            "agent_id": self.agent,
            "capabilities": self.capabilities,
            "endpoint": self.endpoint,
            "labels": labels(self.labels),
            "trust_level": self.trust_level,
            "ttl_seconds": self.ttl_seconds,
            "request_id": self.request_id,
        });
        let result = self.client.call("register_agent", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::SUCCESS)
    }
}
