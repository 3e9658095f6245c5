//! `grant`: permissions that were given or denied.

mod explain;
mod revoke;
mod view;

use authguardian_proto::{
    grants::v1::{
        GetGrantRequest, GrantState, ListGrantsRequest,
        grant_admin_service_client::GrantAdminServiceClient,
    },
    ids::{AgentId, GrantId, ResourceTypeName},
};
use clap::{Args, Subcommand, ValueEnum};

use self::view::GrantView;
pub(super) use self::view::PositionView;
use super::{
    client::{Authenticated, ClientArgs, read},
    failure::Failure,
    machine,
    output::{Format, write_stdout},
    page::PageArgs,
};

const EXAMPLES: &str = "\
Examples:
  control-plane grant list --agent data_analyst --state active
  control-plane grant list --machine build-7 --resource SAP_API --limit 20
  control-plane grant list --state active --watch=5
  control-plane grant show grt_…
  control-plane grant show grt_… -o yaml
  control-plane grant revoke grt_…
  control-plane grant revoke --agent data_analyst --comment \"key leaked\"
  control-plane grant revoke --everything --yes";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct GrantArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List grants and denials, newest first
    List(ListArgs),
    /// Show one grant and explain how it was decided
    Show {
        /// `grt_…`
        grant: GrantId,
    },
    /// End one grant, or all that match
    Revoke(revoke::RevokeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only this agent's
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    /// Only for this resource type
    #[arg(long, value_name = "TYPE")]
    resource: Option<ResourceTypeName>,

    /// Only in this state
    #[arg(long, value_enum)]
    state: Option<StateArg>,

    /// Only through this machine: `mch_…` or a name
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,

    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    /// Its token is good
    Active,
    /// Its time is over
    Expired,
    /// It was ended before its time
    Revoked,
    /// It was never given
    Denied,
}

impl GrantArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        let output = self.client.output;
        match self.verb {
            Verb::List(args) => list(channel, args, output).await,
            Verb::Show { grant } => {
                let mut client = GrantAdminServiceClient::new(channel);
                let request = GetGrantRequest {
                    grant_id: grant.to_string(),
                };
                let found = read(async || client.get_grant(request).await).await?;
                let view = GrantView::from(found.grant.unwrap_or_default());
                match output {
                    Format::Table => write_stdout(&explain::explain(&view)),
                    _ => output.one(&view),
                }
            }
            Verb::Revoke(args) => args.run(channel, output).await,
        }
    }
}

async fn list(channel: Authenticated, args: ListArgs, output: Format) -> Result<(), Failure> {
    let machine_id = match args.machine {
        Some(machine) => machine::resolve(channel.clone(), machine).await?,
        None => String::new(),
    };
    let filter = ListGrantsRequest {
        agent_id: args
            .agent
            .map(|agent| agent.to_string())
            .unwrap_or_default(),
        resource_type: args
            .resource
            .map(|resource| resource.to_string())
            .unwrap_or_default(),
        state: args
            .state
            .map_or(GrantState::Unspecified, StateArg::to_proto)
            .into(),
        machine_id,
        page_size: 0,
        page_token: String::new(),
    };
    let client = GrantAdminServiceClient::new(channel);
    let get = async |page_size, page_token| {
        let request = ListGrantsRequest {
            page_size,
            page_token,
            ..filter.clone()
        };
        let page = read(async || client.clone().list_grants(request).await).await?;
        Ok((
            page.grants.into_iter().map(GrantView::from).collect(),
            page.next_page_token,
        ))
    };
    args.page.show(output, get).await
}

impl StateArg {
    fn to_proto(self) -> GrantState {
        match self {
            Self::Active => GrantState::Active,
            Self::Expired => GrantState::Expired,
            Self::Revoked => GrantState::Revoked,
            Self::Denied => GrantState::Denied,
        }
    }
}
