//! `agent`: agents, how far they are trusted, and which are there.

mod find;

use authguardian_proto::{
    ids::AgentId,
    registry::v1::{
        Agent, DeleteAgentRequest, GetAgentRequest, ListAgentsRequest, PutAgentRequest,
        ReleaseAgentRequest, agent_service_client::AgentServiceClient,
    },
};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::find::{FindArgs, FoundView, registration};
use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, Row, note},
    page::PageArgs,
    value::{or_dash, parse_score, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane agent put data_analyst --trust 0.8 --description \"reads figures\"
  control-plane agent put data_analyst --trust 800
  control-plane agent show data_analyst
  control-plane agent list -o json
  control-plane agent list --watch
  control-plane agent delete data_analyst
  control-plane agent find --capability \"finance.*\" --min-trust 0.5 --live
  control-plane agent find --label region=eu --zone local_machine -o json
  control-plane agent find --machine mch_01jq8zj4m3n5p7r9t1v3x5z7b9 --watch
  control-plane agent release data_analyst

`list` shows what operators say of agents, `find` those that are registered: the live first, then by trust. `release` ends a registration: any key that may speak for the agent can register it then, on any machine.

Trust is an integer 0 to 1000 or a decimal 0.0 to 1.0 with a point: `800` and `0.8` are the same, `1` is one thousandth, `1.0` is full trust.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create an agent, or replace its trust and description
    Put(PutArgs),
    /// Show one agent
    Show {
        /// Which agent
        agent: AgentId,
    },
    /// List agents by id
    List(PageArgs),
    /// Forget an agent and revoke its grants
    Delete(DeleteArgs),
    /// Find registered agents, the best first
    Find(Box<FindArgs>),
    /// End the registration of an agent, so that another machine or key may take its id
    Release(DeleteArgs),
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Which agent
    agent: AgentId,

    /// 0 to 1000, or 0.0 to 1.0 with a point
    #[arg(long, value_parser = parse_score)]
    trust: u32,

    /// For people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Which agent
    agent: AgentId,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl AgentArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut client = AgentServiceClient::new(self.client.connect().await?);
        let output = self.client.output;
        match self.verb {
            Verb::Put(args) => put(client, args, output).await,
            Verb::Show { agent } => {
                let request = GetAgentRequest {
                    agent_id: agent.to_string(),
                };
                let found = read(async || client.get_agent(request).await).await?;
                output.one(&AgentView {
                    registration: registration(client, &agent).await?,
                    ..AgentView::from(found.agent.unwrap_or_default())
                })
            }
            Verb::List(args) => list(client, &args, output).await,
            Verb::Delete(args) => delete(client, args).await,
            Verb::Find(args) => args.run(client, output).await,
            Verb::Release(args) => release(client, args, output).await,
        }
    }
}

async fn put(
    mut client: AgentServiceClient<Authenticated>,
    args: PutArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = PutAgentRequest {
        agent_id: args.agent.to_string(),
        trust: args.trust,
        description: args.description,
        request_id: request_id.clone(),
    };
    let put = change(&request_id, async || {
        client.put_agent(request.clone()).await
    })
    .await?;
    output.one(&AgentView::from(put.agent.unwrap_or_default()))
}

async fn list(
    client: AgentServiceClient<Authenticated>,
    args: &PageArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListAgentsRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_agents(request).await).await?;
        Ok((
            page.agents.into_iter().map(AgentView::from).collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

async fn delete(
    mut client: AgentServiceClient<Authenticated>,
    args: DeleteArgs,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = DeleteAgentRequest {
        agent_id: args.agent.to_string(),
        request_id: request_id.clone(),
    };
    change(&request_id, async || {
        client.delete_agent(request.clone()).await
    })
    .await?;
    note(&format!(
        "agent `{}` is deleted, its grants are revoked",
        args.agent
    ))
}

async fn release(
    mut client: AgentServiceClient<Authenticated>,
    args: DeleteArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = ReleaseAgentRequest {
        agent_id: args.agent.to_string(),
        request_id: request_id.clone(),
    };
    let released = change(&request_id, async || {
        client.release_agent(request.clone()).await
    })
    .await?;
    output.one(&FoundView::from(released.agent.unwrap_or_default()))
}

#[derive(Debug, Serialize)]
struct AgentView {
    agent_id: String,
    trust: u32,
    description: String,
    created_at: Option<String>,
    updated_at: Option<String>,
    /// Where one is shown that is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    registration: Option<FoundView>,
}

impl From<Agent> for AgentView {
    fn from(agent: Agent) -> Self {
        Self {
            created_at: rfc3339(agent.created_at.as_ref()),
            updated_at: rfc3339(agent.updated_at.as_ref()),
            agent_id: agent.agent_id,
            trust: agent.trust,
            description: agent.description,
            registration: None,
        }
    }
}

impl Row for AgentView {
    const PLURAL: &'static str = "agents";
    const COLUMNS: &'static [&'static str] = &["AGENT", "TRUST", "UPDATED", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.agent_id.clone(),
            self.trust.to_string(),
            short_time(self.updated_at.as_deref()),
            or_dash(&self.description),
        ]
    }
}
