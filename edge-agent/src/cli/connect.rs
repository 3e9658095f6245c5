//! `edge-agent connect`

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    client::Client,
    output::{Format, print},
    session,
};

const AFTER_HELP: &str = "\
Checks that there is an edge, keeps its address for the other verbs, and logs in where an API key
is given (see `edge-agent login --help`).

Examples:
  AUTHGUARDIAN_API_KEY=agk_… edge-agent connect --server https://machine-a:3001 --ca-file ca.pem
  edge-agent connect --server http://127.0.0.1:3001";

/// Use this edge from now on, and log in
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Connect {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Connect {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let edge = self.client.edge(self.client.kept()?.as_ref())?;
        let found = edge
            .send(Method::GET, "/readyz", None, None)
            .await?
            .whatever();
        if found["machine_id"].as_str().is_none() {
            return Err(Failure::other(format!(
                "there is no edge at `{}`",
                edge.url
            )));
        }
        let (session, mut told) = match self.client.key()? {
            Some(key) => {
                let (session, told) = session::log_in(&edge, &key).await?;
                (Some(session), told)
            }
            None => (None, Value::Object(serde_json::Map::new())),
        };
        told["server"] = json!(edge.url);
        for name in ["ready", "machine_id", "machine_name", "trust_domain"] {
            told[name] = found[name].clone();
        }
        told["logged_in"] = json!(session.is_some());
        told["session_file"] = json!(self.client.keep(&edge, session)?);
        print(self.format, &told)?;
        Ok(ExitCode::SUCCESS)
    }
}
