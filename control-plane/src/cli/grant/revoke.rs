//! `grant revoke`: ends one grant, or all that match.

use authguardian_proto::{
    grants::v1::{
        RevokeGrantsRequest, grant_admin_service_client::GrantAdminServiceClient,
        revoke_grants_request::Target,
    },
    ids::{AgentId, GrantId, ResourceTypeName},
};
use clap::{ArgGroup, Args};
use serde::Serialize;

use super::view::PositionView;
use crate::cli::{
    client::{Authenticated, RequestIdArgs, change},
    failure::Failure,
    machine,
    output::{Format, confirm, note},
};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).multiple(false))]
pub(super) struct RevokeArgs {
    /// One grant: `grt_…`
    #[arg(group = "target")]
    grant: Option<GrantId>,

    /// All of an agent
    #[arg(long, value_name = "ID", group = "target")]
    agent: Option<AgentId>,

    /// All through a machine: `mch_…` or a name
    #[arg(long, value_name = "MACHINE", group = "target")]
    machine: Option<String>,

    /// All for a resource type
    #[arg(long, value_name = "TYPE", group = "target")]
    resource: Option<ResourceTypeName>,

    /// All that a policy (by its `@id`) determined
    #[arg(long, value_name = "ID", group = "target")]
    policy: Option<String>,

    /// All
    #[arg(long, group = "target")]
    everything: bool,

    /// For the audit log
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    comment: String,

    /// Do not ask; without a terminal nobody is asked either
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Serialize)]
struct RevokedView {
    ended: u64,
    position: Option<PositionView>,
}

impl RevokeArgs {
    pub(super) async fn run(self, channel: Authenticated, output: Format) -> Result<(), Failure> {
        if let Some(all) = self.predicate()
            && !self.yes
            && !confirm(&format!("revoke all active grants {all}?"))?
        {
            note("nothing was revoked")?;
            return Err(Failure::Told(1));
        }
        let request_id = self.request_id.resolve()?;
        let comment = self.comment.clone();
        let target = self.into_target(channel.clone()).await?;
        let request = RevokeGrantsRequest {
            target: Some(target),
            comment,
            request_id: request_id.clone(),
        };
        let mut client = GrantAdminServiceClient::new(channel);
        let revoked = change(&request_id, async || {
            client.revoke_grants(request.clone()).await
        })
        .await?;
        let view = RevokedView {
            ended: revoked.ended,
            position: revoked.position.map(PositionView::from),
        };
        match output {
            Format::Table => note(&format!("revoked; active grants ended: {}", view.ended)),
            _ => output.one(&view),
        }
    }

    /// Which grants, for the question; `None` for a single one.
    fn predicate(&self) -> Option<String> {
        if self.everything {
            return Some("of everybody".to_owned());
        }
        let of = |what: &str, name: String| format!("{what} `{name}`");
        self.agent
            .as_ref()
            .map(|agent| of("of agent", agent.to_string()))
            .or_else(|| {
                self.machine
                    .clone()
                    .map(|machine| of("through machine", machine))
            })
            .or_else(|| {
                self.resource
                    .as_ref()
                    .map(|resource| of("for", resource.to_string()))
            })
            .or_else(|| {
                self.policy
                    .clone()
                    .map(|policy| of("given by policy", policy))
            })
    }

    async fn into_target(self, channel: Authenticated) -> Result<Target, Failure> {
        Ok(match self {
            Self {
                grant: Some(grant), ..
            } => Target::GrantId(grant.to_string()),
            Self {
                agent: Some(agent), ..
            } => Target::AgentId(agent.to_string()),
            Self {
                machine: Some(machine),
                ..
            } => Target::MachineId(machine::resolve(channel, machine).await?),
            Self {
                resource: Some(resource),
                ..
            } => Target::ResourceType(resource.to_string()),
            Self {
                policy: Some(policy),
                ..
            } => Target::PolicyId(policy),
            _ => Target::Everything(true),
        })
    }
}
