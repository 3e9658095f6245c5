//! `AgentService`.

use authguardian_proto::{
    ids::AgentId,
    registry::v1::{
        Agent, DeleteAgentRequest, DeleteAgentResponse, FindAgentsRequest, FindAgentsResponse,
        GetAgentRequest, GetAgentResponse, ListAgentsRequest, ListAgentsResponse, PutAgentRequest,
        PutAgentResponse, ReleaseAgentRequest, ReleaseAgentResponse,
        agent_service_server::AgentService,
    },
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, parse_optional, timestamp},
    registry::{discover, message_for_admins, token},
};
use crate::{
    grants::Grants,
    registry::{self, Agents, PutAgent, Registry},
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct AgentAdmin {
    /// What is on record about agents.
    pub agents: Agents,
    /// Deleting an agent ends its grants.
    pub grants: Grants,
    /// Which of them are there.
    pub registry: Registry,
}

#[tonic::async_trait]
impl AgentService for AgentAdmin {
    async fn put_agent(
        &self,
        request: Request<PutAgentRequest>,
    ) -> Result<Response<PutAgentResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let put = PutAgent {
            id: parse("agent_id", &message.agent_id)?,
            trust: message.trust,
            description: message.description,
        };
        let agent = self.agents.put(context, put).await?;
        Ok(Response::new(PutAgentResponse {
            agent: Some(message_of(agent)),
        }))
    }

    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        let id = parse("agent_id", &request.into_inner().agent_id)?;
        let agent = self.agents.get(&id).await?;
        Ok(Response::new(GetAgentResponse {
            agent: Some(message_of(agent)),
        }))
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after: Option<AgentId> = parse_optional("page_token", &message.page_token)?;
        let agents = self.agents.list(after.as_ref(), i64::from(size)).await?;
        Ok(Response::new(ListAgentsResponse {
            next_page_token: next_page_token(&agents, size, |agent| agent.id.to_string()),
            agents: agents.into_iter().map(message_of).collect(),
        }))
    }

    async fn delete_agent(
        &self,
        request: Request<DeleteAgentRequest>,
    ) -> Result<Response<DeleteAgentResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let id = parse("agent_id", &request.into_inner().agent_id)?;
        self.grants.delete_agent(context, id).await?;
        Ok(Response::new(DeleteAgentResponse {}))
    }

    async fn find_agents(
        &self,
        request: Request<FindAgentsRequest>,
    ) -> Result<Response<FindAgentsResponse>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let page = discover(&self.registry, query, None).await?;
        Ok(Response::new(FindAgentsResponse {
            next_page_token: token(&page),
            agents: page.agents.into_iter().map(message_for_admins).collect(),
        }))
    }

    async fn release_agent(
        &self,
        request: Request<ReleaseAgentRequest>,
    ) -> Result<Response<ReleaseAgentResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let id = parse("agent_id", &request.into_inner().agent_id)?;
        let was = self.registry.release(context, id).await?;
        Ok(Response::new(ReleaseAgentResponse {
            agent: Some(message_for_admins(was)),
        }))
    }
}

fn message_of(agent: registry::Agent) -> Agent {
    Agent {
        agent_id: agent.id.to_string(),
        trust: agent.trust,
        description: agent.description,
        created_at: Some(timestamp(agent.created_at)),
        updated_at: Some(timestamp(agent.updated_at)),
    }
}
