//! `edge-agent revoke-token`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
    validate_token::token,
};

/// End the grant of a token
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  edge-agent revoke-token - < token")]
pub(super) struct RevokeToken {
    /// The token; `-` reads it from stdin
    token: String,
    /// Your own id of this request; repeating it returns the first outcome
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl RevokeToken {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let token = token(self.token)?;
        let arguments = json!({ "token": *token, "request_id": self.request_id });
        let result = self.client.call("revoke_token", &arguments).await?;
        print(self.format, &result)?;
        Ok(ExitCode::SUCCESS)
    }
}
