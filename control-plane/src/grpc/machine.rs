//! `MachineService`.

use authguardian_proto::{
    common::v1::Zone as ZoneMessage,
    identity::v1::{
        BanMachineRequest, BanMachineResponse, EvictMachineRequest, EvictMachineResponse,
        GetMachineRequest, GetMachineResponse, ListMachinesRequest, ListMachinesResponse, Machine,
        MachineAgents, UnbanMachineRequest, UnbanMachineResponse, UpdateMachineRequest,
        UpdateMachineResponse, machine_service_server::MachineService,
    },
    ids::MachineId,
    zone::Zone,
};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{next_page_token, page_size, parse, text, timestamp},
};
use crate::{
    audit::Context,
    error::{Error, Result as DomainResult},
    grants::{Expelled, Grants},
    identity::{
        self, Identity, ServerName, Serves, TermsChange, machine::MachineRef, membership::Expulsion,
    },
};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Machines {
    /// Reads and changes them.
    pub identity: Identity,
    /// Ends grants with them.
    pub grants: Grants,
}

#[tonic::async_trait]
impl MachineService for Machines {
    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let after = after(&message.page_token)?;
        let machines = self
            .identity
            .list_machines(after, message.include_evicted, i64::from(size))
            .await?;
        let key = |machine: &identity::Machine| format!("{},{}", machine.name, machine.id);
        Ok(Response::new(ListMachinesResponse {
            next_page_token: next_page_token(&machines, size, key),
            machines: machines.into_iter().map(message_of).collect(),
        }))
    }

    async fn get_machine(
        &self,
        request: Request<GetMachineRequest>,
    ) -> Result<Response<GetMachineResponse>, Status> {
        let machine = self
            .identity
            .find_machine(&request.into_inner().machine)
            .await?;
        Ok(Response::new(GetMachineResponse {
            machine: Some(message_of(machine)),
        }))
    }

    async fn ban_machine(
        &self,
        request: Request<BanMachineRequest>,
    ) -> Result<Response<BanMachineResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let (machine, comment) = (&message.machine, message.comment);
        let expelled = self
            .expel(context, machine, Expulsion::Ban, comment)
            .await?;
        Ok(Response::new(BanMachineResponse {
            machine: Some(message_of(expelled.machine)),
            grants_ended: expelled.ended.unsigned_abs(),
        }))
    }

    async fn unban_machine(
        &self,
        request: Request<UnbanMachineRequest>,
    ) -> Result<Response<UnbanMachineResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let named: MachineRef = request.into_inner().machine.parse()?;
        let machine = self.identity.unban_machine(context, &named).await?;
        Ok(Response::new(UnbanMachineResponse {
            machine: Some(message_of(machine)),
        }))
    }

    async fn evict_machine(
        &self,
        request: Request<EvictMachineRequest>,
    ) -> Result<Response<EvictMachineResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let (machine, comment) = (&message.machine, message.comment);
        let expelled = self
            .expel(context, machine, Expulsion::Evict, comment)
            .await?;
        Ok(Response::new(EvictMachineResponse {
            machine: Some(message_of(expelled.machine)),
            grants_ended: expelled.ended.unsigned_abs(),
        }))
    }

    async fn update_machine(
        &self,
        request: Request<UpdateMachineRequest>,
    ) -> Result<Response<UpdateMachineResponse>, Status> {
        let context = auth::context(&request, &request.get_ref().request_id)?;
        let message = request.into_inner();
        let named: MachineRef = message.machine.parse()?;
        let change = TermsChange {
            max_zone: max_zone(message.max_zone)?,
            agents: message.agents.as_ref().map(agents).transpose()?,
            server_names: message
                .server_names
                .map(|names| server_names(&names.names))
                .transpose()?,
        };
        let machine = self
            .identity
            .update_machine(context, &named, change)
            .await?;
        Ok(Response::new(UpdateMachineResponse {
            machine: Some(message_of(machine)),
        }))
    }
}

impl Machines {
    async fn expel(
        &self,
        context: Context,
        machine: &str,
        how: Expulsion,
        comment: String,
    ) -> DomainResult<Expelled> {
        let named = machine.parse()?;
        let comment = text("comment", comment, 0, 500)?;
        self.grants
            .expel_machine(context, &named, how, &comment)
            .await
    }
}

/// Where a page begins: after a name and an id.
fn after(page_token: &str) -> DomainResult<Option<(&str, MachineId)>> {
    if page_token.is_empty() {
        return Ok(None);
    }
    let (name, id) = page_token
        .split_once(',')
        .ok_or_else(|| Error::invalid("page_token", "expected `next_page_token` of a page"))?;
    Ok(Some((name, parse("page_token", id)?)))
}

/// A zone; `None` when none is named.
pub(super) fn max_zone(zone: i32) -> DomainResult<Option<Zone>> {
    if zone == i32::from(ZoneMessage::Unspecified) {
        return Ok(None);
    }
    let zone = Zone::from_proto(zone);
    zone.map(Some)
        .ok_or_else(|| Error::invalid("max_zone", "expected a zone"))
}

pub(super) fn agents(message: &MachineAgents) -> DomainResult<Serves> {
    match (message.any, message.agent_ids.as_slice()) {
        (true, []) => Ok(Serves::Any),
        (true, _) => Err(Error::invalid(
            "agents",
            "expected any, or 1 to 100 agents, not both",
        )),
        (false, ids) => {
            let ids = ids.iter().map(|id| parse("agents", id));
            Serves::only(ids.collect::<DomainResult<_>>()?)
        }
    }
}

pub(super) fn server_names(names: &[String]) -> DomainResult<Vec<ServerName>> {
    names.iter().map(|name| ServerName::parse(name)).collect()
}

pub(super) fn agents_message(agents: &Serves) -> MachineAgents {
    match agents {
        Serves::Any => MachineAgents {
            any: true,
            agent_ids: Vec::new(),
        },
        Serves::Only(agents) => MachineAgents {
            any: false,
            agent_ids: agents.iter().map(ToString::to_string).collect(),
        },
    }
}

pub(super) fn name_texts(names: &[ServerName]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

fn message_of(machine: identity::Machine) -> Machine {
    Machine {
        id: machine.id.to_string(),
        name: machine.name,
        state: machine.state.as_str().to_owned(),
        max_zone: machine.terms.max_zone.to_proto().into(),
        created_at: Some(timestamp(machine.created_at)),
        certificate_expires_at: Some(timestamp(machine.certificate_expires_at)),
        agents: Some(agents_message(&machine.terms.agents)),
        server_names: name_texts(&machine.terms.server_names),
    }
}
