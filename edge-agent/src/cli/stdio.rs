//! `edge-agent stdio`

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use tokio::io::BufReader;

use super::{Failure, client::api_key, logging};
use crate::{config::Config, faces::stdio};

const AFTER_HELP: &str = "\
The API key comes from AUTHGUARDIAN_API_KEY or --api-key-file. Logs go to stderr only.

Example, as an MCP client's server entry:
  {\"command\": \"edge-agent\", \"args\": [\"stdio\"], \"env\": {\"AUTHGUARDIAN_API_KEY\": \"agk_…\"}}";

/// Bridge an MCP client on stdin and stdout to the running edge
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Stdio {
    /// The edge's Unix socket; default: as configured
    #[arg(long, value_name = "PATH", env = "AUTHGUARDIAN_EDGE_SOCKET")]
    socket: Option<PathBuf>,
    /// Configuration file (TOML) of the edge
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// File with the API key
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

impl Stdio {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let config =
            Config::load(self.config.as_deref(), std::env::vars()).map_err(Failure::usage)?;
        logging::start(&config.log)?;
        let api_key = api_key(self.api_key_file.as_deref())?;
        let socket = self.socket.unwrap_or_else(|| config.socket());
        stdio::run(
            &socket,
            api_key,
            BufReader::new(tokio::io::stdin()),
            tokio::io::stdout(),
        )
        .await
        .map_err(Failure::other)?;
        Ok(ExitCode::SUCCESS)
    }
}
