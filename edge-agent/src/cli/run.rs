//! `edge-agent run`

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use authguardian_proto::{credential::JoinToken, reason::Reason};
use clap::Args;
use rmcp::ServerHandler;

use super::{Failure, join::join_token, logging};
use crate::{
    app::{self, Reload, RunError, RunOptions},
    clock::Ambient,
    config::{Config, ConfigError},
    faces::MakeHandler,
    identity::JoinError,
};

const AFTER_HELP: &str = "\
Every key of the configuration can also be set as AUTHGUARDIAN_SECTION__KEY; flags win over the
environment, that over the file.

Examples:
  edge-agent run --config /etc/authguardian/edge-agent.toml
  edge-agent run --data-dir ./edge --listen 127.0.0.1:3001 --server https://127.0.0.1:3004 --join-token agj_…";

/// Run the edge
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Run {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the machine's key and certificate
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the HTTP faces; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address where MCP over WebSocket is alone; port 0 takes a free one, empty is nowhere
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_websocket: Option<String>,
    /// Path of the Unix socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The control plane's edge listener; can be repeated
    #[arg(long, value_name = "https://HOST:PORT")]
    server: Vec<String>,
    /// Join with this token when the machine has not joined yet
    #[arg(long, value_name = "agj_…", env = "AUTHGUARDIAN_JOIN_TOKEN", hide_env_values = true, value_parser = join_token)]
    join_token: Option<Arc<JoinToken>>,
    /// Written, as JSON, when the edge is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when stdin ends
    #[arg(long)]
    exit_with_parent: bool,
}

impl Run {
    pub(super) async fn run<H: ServerHandler>(
        mut self,
        make: impl MakeHandler<H>,
    ) -> Result<ExitCode, Failure> {
        let config = self.config().map_err(Failure::usage)?;
        logging::start(&config.log)?;
        if let Err(error) = authguardian_memory::keep_private() {
            tracing::warn!(%error, "a crash would write a core file with what is in memory");
        }
        let ambient = Ambient::system().map_err(Failure::other)?;
        let options = RunOptions {
            // taken, so that it is wiped once it was used
            join_token: self.join_token.take(),
            ready_file: self.ready_file.take(),
            exit_with_parent: self.exit_with_parent,
            reload: Some(Reload::new(move || self.config())),
        };
        match app::run(&config, options, ambient, make).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(RunError::Join(JoinError::Refused(problem))) => Err(problem.into()),
            Err(error @ RunError::Config(_)) => Err(Failure::usage(error)),
            Err(error @ RunError::NotJoined) => {
                Err(Failure::with_reason(Reason::Unauthenticated, error))
            }
            Err(error) => Err(Failure::other(error)),
        }
    }

    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = Config::load(self.config.as_deref(), std::env::vars())?;
        if let Some(dir) = &self.data_dir {
            config.data.dir.clone_from(dir);
        }
        if let Some(listen) = &self.listen {
            config.listen.http.clone_from(listen);
        }
        if let Some(listen) = &self.listen_websocket {
            config.listen.websocket = Some(listen.clone());
        }
        if let Some(socket) = &self.socket {
            config.listen.socket = Some(socket.clone());
        }
        if !self.server.is_empty() {
            config.server.addresses.clone_from(&self.server);
        }
        config.validate()?;
        Ok(config)
    }
}
