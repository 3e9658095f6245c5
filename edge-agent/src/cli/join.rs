//! `edge-agent join`

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use authguardian_discovery::{Announcement, Mdns, News};
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
    identity::{self, Identity, JoinError, Store},
};

/// How long a control plane is looked for: they answer a question at once.
const LOOK_FOR: Duration = Duration::from_secs(15);

const AFTER_HELP: &str = "\
An operator makes a token with `control-plane join-token create --machine <name>`; it works once,
for ten minutes. When the reply was lost, run the same command again.

With --discover the control plane is looked for in the local network (mDNS), on the interfaces that
are named: the one whose CA the token is for. Others are passed over, whatever they announce.

Examples:
  edge-agent join --server https://cp.example:3004 --token agj_…
  edge-agent join --discover --interface eth0 --token agj_…";

/// Make this host a machine of a control plane
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Join {
    /// The control plane's edge listener
    #[arg(
        long,
        value_name = "https://HOST:PORT",
        required_unless_present = "discover"
    )]
    server: Option<ServerAddress>,
    /// Look for the control plane in the local network
    #[arg(long, requires = "interface", conflicts_with = "server")]
    discover: bool,
    /// Interface to look on; several may be named
    #[arg(long, value_name = "NAME", requires = "discover")]
    interface: Vec<String>,
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
        let identity = match &self.server {
            Some(server) => identity::join(&store, server, &self.token)
                .await
                .map_err(failure)?,
            None => self.look(&store).await?,
        };
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

impl Join {
    /// Joins at the first control plane of the local network that the token is
    /// for, and that proves to be it.
    async fn look(&self, store: &Store) -> Result<Identity, Failure> {
        let mdns = Mdns::open(&self.interface).map_err(Failure::other)?;
        let browser = mdns.browse().map_err(Failure::other)?;
        let mut last = None;
        let looking = async {
            while let Some(news) = browser.next().await {
                for server in candidates(&news, &self.token) {
                    match identity::join(store, &server, &self.token).await {
                        Err(JoinError::Refused(problem)) if is_elsewhere(problem.reason) => {
                            tracing::warn!(%server, detail = problem.detail, "not joined here");
                            last = Some(problem);
                        }
                        outcome => return Some(outcome),
                    }
                }
            }
            None
        };
        let found = tokio::time::timeout(LOOK_FOR, looking).await;
        mdns.close().await;
        match found {
            Ok(Some(outcome)) => outcome.map_err(failure),
            Ok(None) | Err(_) => Err(last.map_or_else(
                || {
                    let nobody = format!(
                        "no control plane with the CA of this token was heard of within {} s on {}",
                        LOOK_FOR.as_secs(),
                        self.interface.join(", ")
                    );
                    Failure::with_reason(Reason::Unavailable, nobody)
                },
                Failure::from,
            )),
        }
    }
}

/// Where a control plane says that it is which the token is for.
fn candidates(news: &News, token: &JoinToken) -> Vec<ServerAddress> {
    let News::Found(found) = news else {
        return Vec::new();
    };
    match found.announcement {
        Announcement::ControlPlane { ca_fingerprint }
            if ca_fingerprint == token.ca_fingerprint() =>
        {
            found.addresses.iter().copied().map(Into::into).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether another server may have another answer.
fn is_elsewhere(reason: Reason) -> bool {
    matches!(reason, Reason::Unavailable | Reason::JoinTokenInvalid)
}

fn failure(error: JoinError) -> Failure {
    match error {
        JoinError::Refused(problem) => problem.into(),
        JoinError::AlreadyJoined(_) => Failure::with_reason(Reason::RequestIdReused, error),
        error => Failure::other(error),
    }
}

/// Reads a join token from the command line.
pub(super) fn join_token(text: &str) -> Result<Arc<JoinToken>, ParseIdError> {
    text.parse().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use authguardian_discovery::Found;
    use authguardian_proto::ids::{JoinTokenId, MachineId};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_control_planes_of_the_tokens_ca_are_asked() {
        let token = JoinToken::new(JoinTokenId::from_uuid(Uuid::from_u128(1)), [1; 32], [2; 32]);
        let found = |announcement| {
            News::Found(Found {
                name: "x._authguardian._tcp.local.".to_owned(),
                announcement,
                addresses: vec![
                    "192.0.2.1:3004".parse().unwrap(),
                    "[2001:db8::1]:3004".parse().unwrap(),
                ],
            })
        };
        let ours = found(Announcement::ControlPlane {
            ca_fingerprint: [2; 32],
        });
        let addresses: Vec<String> = candidates(&ours, &token)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            addresses,
            ["https://192.0.2.1:3004", "https://[2001:db8::1]:3004"]
        );
        let machine = MachineId::from_uuid(Uuid::from_u128(1));
        for other in [
            found(Announcement::ControlPlane {
                ca_fingerprint: [3; 32],
            }),
            found(Announcement::Edge {
                machine,
                records: 1,
            }),
            News::Lost("x".to_owned()),
        ] {
            assert!(candidates(&other, &token).is_empty());
        }
    }
}
