//! `edge-agent logout`

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::{
    Failure,
    client::Client,
    output::{Format, print},
    session,
};

const AFTER_HELP: &str = "\
Streams that were opened with the session end too. Which edge it was at is still kept.

Example:
  edge-agent logout";

/// End the session of `login`
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Logout {
    #[command(flatten)]
    client: Client,
    #[command(flatten)]
    format: Format,
}

impl Logout {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let kept = self.client.kept()?;
        let edge = self.client.edge(kept.as_ref())?;
        let session = kept
            .filter(|kept| kept.server == edge.url)
            .and_then(|kept| kept.session)
            .ok_or_else(|| Failure::usage(format!("there is no session at `{}`", edge.url)))?;
        let path = "/auth/session";
        let reply = edge
            .send(Method::DELETE, path, Some(session.token()), None)
            .await?;
        // one that has ended by itself is as good
        if !reply.reason().is_some_and(session::means_ended) {
            reply.ok()?;
        }
        self.client.keep(&edge, None)?;
        let ended = json!({ "server": edge.url, "session_id": session.id, "ended": true });
        print(self.format, &ended)?;
        Ok(ExitCode::SUCCESS)
    }
}
