//! `edge-agent join`

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use authguardian_proto::{credential::JoinToken, ids::ParseIdError, reason::Reason};
use clap::Args;
use serde_json::json;
use time::format_description::well_known::Rfc3339;

use super::{
    Failure,
    output::{Format, print},
};
use crate::{
    config::Config,
    dial::ServerAddress,
    identity::{self, JoinError, Store},
};

const AFTER_HELP: &str = "\
An operator makes a token with `control-plane join-token create --machine <name>`; it works once,
for ten minutes. When the reply was lost, run the same command again.

Example:
  edge-agent join --server https://cp.example:3004 --token agj_…";

/// Make this host a machine of a control plane
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Join {
    /// The control plane's edge listener
    #[arg(long, value_name = "https://HOST:PORT")]
    server: ServerAddress,
    /// The one-time token; it also tells which CA to trust
    #[arg(long, value_name = "agj_…", env = "AUTHGUARDIAN_JOIN_TOKEN", hide_env_values = true, value_parser = join_token)]
    token: Arc<JoinToken>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory to keep the machine's key and certificate in
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

impl Join {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let config =
            Config::load(self.config.as_deref(), std::env::vars()).map_err(Failure::usage)?;
        let store = Store::open(self.data_dir.as_ref().unwrap_or(&config.data.dir))
            .map_err(Failure::other)?;
        let identity = identity::join(&store, &self.server, &self.token)
            .await
            .map_err(|error| match error {
                JoinError::Refused(problem) => problem.into(),
                JoinError::AlreadyJoined(_) => Failure::with_reason(Reason::RequestIdReused, error),
                error => Failure::other(error),
            })?;
        print(
            self.format,
            &json!({
                "machine_id": identity.machine_id.to_string(),
                "machine_name": identity.machine_name,
                "trust_domain": identity.trust_domain,
                "certificate_ends": identity.validity.ends.format(&Rfc3339).map_err(Failure::other)?,
            }),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a join token from the command line.
pub(super) fn join_token(text: &str) -> Result<Arc<JoinToken>, ParseIdError> {
    text.parse().map(Arc::new)
}
