//! `status`: how the control plane is.

use authguardian_proto::status_api::v1::{
    GetStatusRequest, GetStatusResponse, status_service_client::StatusServiceClient,
};
use authguardian_terminal::{WatchArgs, watch};
use clap::Args;
use serde::Serialize;

use super::{
    client::{ClientArgs, read},
    failure::Failure,
    output::Format,
    suspend::target_text,
    value::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  control-plane status
  control-plane status --watch
  control-plane status -o json | jq .active_grants";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

impl StatusArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = StatusServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        let mut get = async || {
            let status = read(async || client.get_status(GetStatusRequest {}).await).await?;
            Ok::<_, Failure>(StatusView::from(status))
        };
        match self.watch.interval() {
            None => output.one(&get().await?),
            Some(every) => {
                let look = async || output.one_sight(&get().await?);
                watch(every, output != Format::Table, look).await
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct StatusView {
    version: String,
    started_at: Option<String>,
    trust_domain: String,
    ca_fingerprint: String,
    postgres_version: String,
    write_quorum: u32,
    write_copies: u32,
    leader_lease_milliseconds: Option<u64>,
    policy_version: u64,
    machines: u64,
    agents: u64,
    active_grants: u64,
    suspensions: Vec<String>,
    heads: Vec<HeadView>,
}

#[derive(Debug, Serialize)]
struct HeadView {
    stream: String,
    epoch: u64,
    revision: u64,
}

impl From<GetStatusResponse> for StatusView {
    fn from(status: GetStatusResponse) -> Self {
        let heads = status.heads.into_iter().map(|head| {
            let position = head.position.unwrap_or_default();
            HeadView {
                stream: head.stream,
                epoch: position.epoch,
                revision: position.revision,
            }
        });
        Self {
            started_at: rfc3339(status.started_at.as_ref()),
            version: status.version,
            trust_domain: status.trust_domain,
            ca_fingerprint: status.ca_fingerprint,
            postgres_version: status.postgres_version,
            write_quorum: status.write_quorum,
            write_copies: status.write_copies,
            leader_lease_milliseconds: status.leader_lease_milliseconds,
            policy_version: status.policy_version,
            machines: status.machines,
            agents: status.agents,
            active_grants: status.active_grants,
            suspensions: status
                .suspensions
                .into_iter()
                .map(|target| target_text(Some(target)))
                .collect(),
            heads: heads.collect(),
        }
    }
}
