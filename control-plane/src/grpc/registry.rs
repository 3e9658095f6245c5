//! `RegistryService`, and registrations as messages.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::{
    capability::{self, Capability, CapabilityQuery},
    endpoint::Endpoint,
    ids::{AgentId, MachineId},
    liveness::Liveness,
    registry::v1::{
        AgentStatus, BeginEdgeRequest, BeginEdgeResponse, DeregisterAgentRequest,
        DeregisterAgentResponse, DiscoverAgentsRequest, DiscoverAgentsResponse, HeartbeatRequest,
        HeartbeatResponse, OwnAgent, RegisterAgentRequest, RegisterAgentResponse, RemoteAgent,
        Timing as PbTiming, registry_service_server::RegistryService,
    },
    zone::Zone,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{page_size, parse, parse_optional, timestamp},
};
use crate::{
    error::{Error, Result},
    registry::{
        Cursor, Heartbeat, NewRegistration, Page, PeerAddress, Registration, Registry, Said,
        Search, Timing,
    },
};

/// Most agents that one heartbeat names.
const MAX_SAID: usize = 10_000;

/// Most signed records in one answer; what is left out is asked for again.
const MAX_RECORDS: usize = 100;

/// See the `.proto` file.
#[derive(Debug)]
pub struct RegistryFace(pub Registry);

#[tonic::async_trait]
impl RegistryService for RegistryFace {
    async fn begin_edge(
        &self,
        request: Request<BeginEdgeRequest>,
    ) -> std::result::Result<Response<BeginEdgeResponse>, Status> {
        let machine = auth::machine(&request)?;
        let peer_address = PeerAddress::read(&request.into_inner().peer_address)?;
        let begun = self.0.begin_edge(machine, peer_address).await?;
        Ok(Response::new(BeginEdgeResponse {
            incarnation: begun.incarnation.unsigned_abs(),
            timing: Some(timing(self.0.timing())),
            agents: begun
                .agents
                .into_iter()
                .map(|agent| own_agent(agent, String::new()))
                .collect(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<HeartbeatRequest>,
    ) -> std::result::Result<Response<HeartbeatResponse>, Status> {
        let machine = auth::machine(&request)?;
        let heartbeat = heartbeat(machine, request.get_ref())?;
        let heard = self.0.heartbeat(heartbeat).await?;
        let records = heard.wanted.into_iter().take(MAX_RECORDS);
        let agents = records.map(|agent| {
            let record = self.0.sign(&agent)?;
            Ok(own_agent(agent, record))
        });
        Ok(Response::new(HeartbeatResponse {
            timing: Some(timing(self.0.timing())),
            agents: agents.collect::<Result<Vec<_>>>()?,
            ended: heard.ended.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn register_agent(
        &self,
        request: Request<RegisterAgentRequest>,
    ) -> std::result::Result<Response<RegisterAgentResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let new = new_registration(request.into_inner())?;
        let registered = self.0.register(context, session, new).await?;
        Ok(Response::new(RegisterAgentResponse {
            agent: Some(own_agent(registered.registration, registered.signed_record)),
        }))
    }

    async fn deregister_agent(
        &self,
        request: Request<DeregisterAgentRequest>,
    ) -> std::result::Result<Response<DeregisterAgentResponse>, Status> {
        let session = auth::session(&request)?;
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let agent = parse("agent_id", &request.into_inner().agent_id)?;
        let was = self.0.deregister(context, session, agent).await?;
        Ok(Response::new(DeregisterAgentResponse {
            agent: Some(message_of(was)),
        }))
    }

    async fn discover_agents(
        &self,
        request: Request<DiscoverAgentsRequest>,
    ) -> std::result::Result<Response<DiscoverAgentsResponse>, Status> {
        let session = auth::session(&request)?;
        let near = Some(session.machine);
        let page = discover(&self.0, request.into_inner(), near).await?;
        Ok(Response::new(DiscoverAgentsResponse {
            next_page_token: token(&page),
            agents: page.agents.into_iter().map(message_of).collect(),
        }))
    }
}

fn heartbeat(machine: MachineId, message: &HeartbeatRequest) -> Result<Heartbeat> {
    if message.agents.len() > MAX_SAID {
        return Err(Error::invalid(
            "agents",
            format!("expected at most {MAX_SAID}"),
        ));
    }
    let agents = message.agents.iter().map(said);
    Ok(Heartbeat {
        machine,
        incarnation: number("incarnation", message.incarnation)?,
        sequence: number("sequence", message.sequence)?,
        peer_address: PeerAddress::read(&message.peer_address)?,
        agents: agents.collect::<Result<Vec<_>>>()?,
        complete: message.complete,
    })
}

fn said(status: &AgentStatus) -> Result<Said> {
    let expected = || Error::invalid("agents.liveness", "expected a liveness");
    Ok(Said {
        agent_id: parse("agents.agent_id", &status.agent_id)?,
        epoch: number("agents.epoch", status.epoch)?,
        liveness: Liveness::from_proto(status.liveness).ok_or_else(expected)?,
        wants_record: status.wants_record,
    })
}

fn number(field: &str, number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::invalid(field, "expected a number below 2^63"))
}

fn new_registration(message: RegisterAgentRequest) -> Result<NewRegistration> {
    let endpoint = match message.endpoint.as_str() {
        "" => None,
        url => Some(
            url.parse::<Endpoint>()
                .map_err(|error| Error::invalid("endpoint", error.to_string()))?,
        ),
    };
    Ok(NewRegistration {
        agent_id: parse("agent_id", &message.agent_id)?,
        capabilities: capability::from_messages(message.capabilities)?,
        endpoint,
        labels: message.labels.into_iter().collect(),
        trust: message.trust_level,
        ttl_seconds: (message.ttl_seconds > 0).then_some(message.ttl_seconds),
    })
}

/// One page of what a message asks for.
pub(super) async fn discover(
    registry: &Registry,
    message: DiscoverAgentsRequest,
    near: Option<MachineId>,
) -> Result<Page> {
    let limit = page_size(message.page_size)?;
    let after: Option<Cursor> = match message.page_token.as_str() {
        "" => None,
        token => Some(token.parse()?),
    };
    let search = search(message, near)?;
    registry.discover(&search, after.as_ref(), limit).await
}

fn search(message: DiscoverAgentsRequest, near: Option<MachineId>) -> Result<Search> {
    let capability = match message.capability.as_str() {
        "" => CapabilityQuery::Any,
        text => text
            .parse()
            .map_err(|error: capability::ParseCapabilityError| {
                Error::invalid("capability", error.to_string())
            })?,
    };
    let zone = match message.zone {
        0 => None,
        zone => {
            Some(Zone::from_proto(zone).ok_or_else(|| Error::invalid("zone", "expected a zone"))?)
        }
    };
    let worst = match message.worst_liveness {
        0 => Liveness::Gone,
        worst => Liveness::from_proto(worst)
            .ok_or_else(|| Error::invalid("worst_liveness", "expected a liveness"))?,
    };
    let agents = message.agent_ids.iter();
    Ok(Search {
        capability,
        min_trust: message.min_trust,
        zone,
        machine: parse_optional("machine_id", &message.machine_id)?,
        worst,
        labels: message.labels.into_iter().collect::<BTreeMap<_, _>>(),
        agents: agents
            .map(|id| parse("agent_ids", id))
            .collect::<Result<Vec<AgentId>>>()?,
        near,
    })
}

/// Where the next page begins.
pub(super) fn token(page: &Page) -> String {
    page.next
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A registration as a message; whose key it was is for admins.
pub(super) fn message_of(agent: Registration) -> RemoteAgent {
    RemoteAgent {
        agent_id: agent.agent_id.to_string(),
        machine_id: agent.machine_id.to_string(),
        api_key_id: String::new(),
        capabilities: agent
            .capabilities
            .iter()
            .map(Capability::to_message)
            .collect(),
        trust_level: agent.trust,
        zone: agent.zone.to_proto().into(),
        liveness: agent.liveness.to_proto().into(),
        last_seen: Some(timestamp(agent.last_seen)),
        endpoint: agent
            .endpoint
            .map(|endpoint| endpoint.to_string())
            .unwrap_or_default(),
        labels: agent.labels.into_iter().collect(),
        registered_at: Some(timestamp(agent.registered_at)),
        epoch: agent.epoch.unsigned_abs(),
        peer_address: agent
            .peer_address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        ttl_seconds: agent.ttl_seconds,
    }
}

/// The same with its key.
pub(super) fn message_for_admins(agent: Registration) -> RemoteAgent {
    RemoteAgent {
        api_key_id: agent.api_key_id.to_string(),
        ..message_of(agent)
    }
}

fn own_agent(agent: Registration, signed_record: String) -> OwnAgent {
    OwnAgent {
        api_key_id: agent.api_key_id.to_string(),
        signed_record,
        agent: Some(message_of(agent)),
    }
}

fn timing(timing: &Timing) -> PbTiming {
    let millis = |span: Duration| u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
    PbTiming {
        heartbeat_ms: millis(timing.heartbeat),
        suspect_after_ms: millis(timing.suspect_after),
        gone_after_ms: millis(timing.gone_after),
    }
}
