//! `edge-agent login`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print, write_stdout},
    session,
};

const AFTER_HELP: &str = "\
The API key comes from AUTHGUARDIAN_API_KEY or --api-key-file. It never leaves this process: it
signs a nonce of the control plane. The session is kept for the other verbs, which renew it, for
12 hours at most.

Examples:
  AUTHGUARDIAN_API_KEY=agk_… edge-agent login
  edge-agent login --api-key-file ~/.agk -o json
  curl -H \"Authorization: Bearer $(edge-agent login --print-token)\" …";

/// Trade the API key for a session at the edge
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Login {
    /// Print the session token, and keep nothing
    #[arg(long)]
    print_token: bool,
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Login {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let edge = self.client.edge(self.client.kept()?.as_ref())?;
        let key = self.client.key()?.ok_or_else(|| {
            Failure::usage("no API key: set AUTHGUARDIAN_API_KEY or use --api-key-file")
        })?;
        let (session, mut told) = session::log_in(&edge, &key).await?;
        if self.print_token {
            write_stdout(&format!("{}\n", session.token()))?;
            return Ok(ExitCode::SUCCESS);
        }
        told["server"] = json!(edge.url);
        told["session_file"] = json!(self.client.keep(&edge, Some(session))?);
        print(self.format, &told)?;
        Ok(ExitCode::SUCCESS)
    }
}
