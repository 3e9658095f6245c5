//! `edge-agent validate-token`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
};

const AFTER_HELP: &str = "\
Exit code 4 when the token is not valid.

Example:
  edge-agent validate-token --agent data_analyst --resource SAP_API - < token";

/// Check a token
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ValidateToken {
    /// Agent that it has to be for
    #[arg(long, value_name = "ID")]
    agent: String,
    /// Resource type that it has to be for
    #[arg(long, value_name = "NAME")]
    resource: String,
    /// Ask the control plane for proof, whatever the edge knows
    #[arg(long)]
    strong: bool,
    /// The token; `-` reads it from stdin
    token: String,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl ValidateToken {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let token = token(self.token)?;
        let arguments = json!({
            "token": *token,
            "agent_id": self.agent,
            "resource_type": self.resource,
            "consistency": self.strong.then_some("strong"),
        });
        let result = self.client.call("validate_token", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::from(if result["valid"] == true { 0 } else { 4 }))
    }
}

/// The argument, or stdin for `-`.
pub(super) fn token(argument: String) -> Result<Zeroizing<String>, Failure> {
    let text = if argument == "-" {
        std::io::read_to_string(std::io::stdin()).map_err(Failure::other)?
    } else {
        argument
    };
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim().to_owned()))
}
