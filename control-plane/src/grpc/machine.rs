//! `MachineService`.

use authguardian_proto::identity::v1::{
    GetMachineRequest, GetMachineResponse, ListMachinesRequest, ListMachinesResponse, Machine,
    machine_service_server::MachineService,
};
use tonic::{Request, Response, Status};

use super::convert::{next_page_token, page_size, timestamp};
use crate::identity::{self, Identity};

/// See the `.proto` file.
#[derive(Debug)]
pub struct Machines(pub Identity);

#[tonic::async_trait]
impl MachineService for Machines {
    async fn list_machines(
        &self,
        request: Request<ListMachinesRequest>,
    ) -> Result<Response<ListMachinesResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size)?;
        let machines = self
            .0
            .list_machines(&message.page_token, i64::from(size))
            .await?;
        Ok(Response::new(ListMachinesResponse {
            next_page_token: next_page_token(&machines, size, |machine| machine.name.clone()),
            machines: machines.into_iter().map(message_of).collect(),
        }))
    }

    async fn get_machine(
        &self,
        request: Request<GetMachineRequest>,
    ) -> Result<Response<GetMachineResponse>, Status> {
        let machine = self.0.find_machine(&request.into_inner().machine).await?;
        Ok(Response::new(GetMachineResponse {
            machine: Some(message_of(machine)),
        }))
    }
}

fn message_of(machine: identity::Machine) -> Machine {
    Machine {
        id: machine.id.to_string(),
        name: machine.name,
        state: if machine.banned { "banned" } else { "active" }.to_owned(),
        max_zone: machine.max_zone.to_proto().into(),
        created_at: Some(timestamp(machine.created_at)),
        certificate_expires_at: Some(timestamp(machine.certificate_expires_at)),
    }
}
