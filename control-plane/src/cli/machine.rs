//! `machine`: machines that run an edge.

use authguardian_proto::{
    identity::v1::{
        GetMachineRequest, ListMachinesRequest, Machine,
        machine_service_client::MachineServiceClient,
    },
    ids::{MachineId, MachineName},
    zone::Zone,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::{Authenticated, ClientArgs, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{or_dash, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane machine list
  control-plane machine list --watch=10
  control-plane machine show build-7 -o yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MachineArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List enrolled machines by name
    List(PageArgs),
    /// Show one machine
    Show {
        /// `mch_…` or a name
        machine: String,
    },
}

impl MachineArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        match self.verb {
            Verb::List(args) => list(channel, &args, self.client.output).await,
            Verb::Show { machine } => {
                let machine = find(channel, machine).await?;
                self.client.output.one(&MachineView::from(machine))
            }
        }
    }
}

/// The id of a machine that is named by id or by name.
pub(super) async fn resolve(channel: Authenticated, machine: String) -> Result<String, Failure> {
    if machine.parse::<MachineId>().is_ok() {
        return Ok(machine);
    }
    Ok(find(channel, machine).await?.id)
}

async fn find(channel: Authenticated, machine: String) -> Result<Machine, Failure> {
    let mut client = MachineServiceClient::new(channel);
    let well_formed =
        machine.parse::<MachineId>().is_ok() || machine.parse::<MachineName>().is_ok();
    let found = read(async || client.get_machine(GetMachineRequest { machine }).await).await;
    // of a good name the only thing to say is that nobody has it
    let found = found.map_err(|failure| {
        if well_formed {
            failure.unknown("machine")
        } else {
            failure
        }
    })?;
    Ok(found.machine.unwrap_or_default())
}

async fn list(channel: Authenticated, args: &PageArgs, output: Format) -> Result<(), Failure> {
    let client = MachineServiceClient::new(channel);
    let get = async |page_size, page_token| {
        let request = ListMachinesRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_machines(request).await).await?;
        let items = page.machines.into_iter().map(MachineView::from).collect();
        Ok((items, page.next_page_token))
    };
    args.show(output, get).await
}

#[derive(Debug, Serialize)]
struct MachineView {
    id: String,
    name: String,
    state: String,
    max_zone: Option<&'static str>,
    created_at: Option<String>,
    certificate_expires_at: Option<String>,
}

impl From<Machine> for MachineView {
    fn from(machine: Machine) -> Self {
        Self {
            max_zone: Zone::from_proto(machine.max_zone).map(Zone::as_str),
            created_at: rfc3339(machine.created_at.as_ref()),
            certificate_expires_at: rfc3339(machine.certificate_expires_at.as_ref()),
            id: machine.id,
            name: machine.name,
            state: machine.state,
        }
    }
}

impl Row for MachineView {
    const PLURAL: &'static str = "machines";
    const COLUMNS: &'static [&'static str] = &[
        "NAME",
        "ID",
        "STATE",
        "MAX ZONE",
        "JOINED",
        "CERTIFICATE ENDS",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.clone(),
            self.state.clone(),
            or_dash(self.max_zone.unwrap_or_default()),
            short_time(self.created_at.as_deref()),
            short_time(self.certificate_expires_at.as_deref()),
        ]
    }
}
