//! `machine`: machines that run an edge.

pub(super) mod terms;

use authguardian_proto::{
    identity::v1::{
        BanMachineRequest, EvictMachineRequest, GetMachineRequest, ListMachinesRequest, Machine,
        UnbanMachineRequest, UpdateMachineRequest, machine_service_client::MachineServiceClient,
    },
    ids::{MachineId, MachineName},
    reason::Reason,
    zone::Zone,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::terms::TermsChangeArgs;
use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{or_dash, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane machine list
  control-plane machine list --watch=10
  control-plane machine list --evicted
  control-plane machine show build-7 -o yaml
  control-plane machine set build-7 --max-zone trusted_network
  control-plane machine set build-7 --agent ci_runner --agent deployer
  control-plane machine set build-7 --any-agent --server-name build-7.example.org --server-name 10.0.0.7
  control-plane machine ban build-7 --comment \"key was copied\"
  control-plane machine unban build-7
  control-plane machine evict build-7

A banned machine's calls are refused, its sessions and the grants that were given through it end, and its connections
are closed at once; after `unban` it goes on with the certificate that it has. `evict` is for good: the machine has to
join again, and its name is free. Where `set` changes zone or agents, the machine's sessions are made anew.";

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
    List(ListArgs),
    /// Show one machine
    Show {
        /// `mch_…` or a name
        machine: String,
    },
    /// Refuse all calls of a machine, and end what was given through it, until it is unbanned
    Ban(ExpelArgs),
    /// Let a banned machine call again
    Unban(UnbanArgs),
    /// As ban, for good: the machine has to join again
    Evict(ExpelArgs),
    /// Change how far a machine is trusted, whom it may serve, what else it is called
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Evicted machines as well
    #[arg(long)]
    evicted: bool,

    #[command(flatten)]
    page: PageArgs,
}

#[derive(Debug, Args)]
struct ExpelArgs {
    /// `mch_…` or a name
    machine: String,

    /// Why, for people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    comment: String,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct UnbanArgs {
    /// `mch_…` or a name
    machine: String,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// `mch_…` or a name
    machine: String,

    #[command(flatten)]
    change: TermsChangeArgs,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl MachineArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        let output = self.client.output;
        match self.verb {
            Verb::List(args) => list(channel, &args, output).await,
            Verb::Show { machine } => {
                let machine = find(channel, machine).await?;
                output.one(&MachineView::from(machine))
            }
            Verb::Ban(args) => ban(channel, args, output).await,
            Verb::Unban(args) => unban(channel, args, output).await,
            Verb::Evict(args) => evict(channel, args, output).await,
            Verb::Set(args) => set(channel, args, output).await,
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
    let request = GetMachineRequest {
        machine: machine.clone(),
    };
    let found = read(async || client.get_machine(request).await).await;
    let found = found.map_err(|failure| unless_enrolled(failure, &machine))?;
    Ok(found.machine.unwrap_or_default())
}

/// Of a good name the only thing to say is that nobody has it.
fn unless_enrolled(failure: Failure, machine: &str) -> Failure {
    let well_formed =
        machine.parse::<MachineId>().is_ok() || machine.parse::<MachineName>().is_ok();
    match failure {
        Failure::Problem(problem) if well_formed && problem.reason == Reason::InvalidArgument => {
            Failure::Problem(problem).unknown("machine")
        }
        other => other,
    }
}

async fn ban(channel: Authenticated, args: ExpelArgs, output: Format) -> Result<(), Failure> {
    let mut client = MachineServiceClient::new(channel);
    let request_id = args.request_id.resolve()?;
    let request = BanMachineRequest {
        machine: args.machine.clone(),
        comment: args.comment,
        request_id: request_id.clone(),
    };
    let banned = change(&request_id, async || {
        client.ban_machine(request.clone()).await
    })
    .await
    .map_err(|failure| unless_enrolled(failure, &args.machine))?;
    output.one(&ExpelledView {
        machine: banned.machine.unwrap_or_default().into(),
        grants_ended: banned.grants_ended,
    })
}

async fn unban(channel: Authenticated, args: UnbanArgs, output: Format) -> Result<(), Failure> {
    let mut client = MachineServiceClient::new(channel);
    let request_id = args.request_id.resolve()?;
    let request = UnbanMachineRequest {
        machine: args.machine.clone(),
        request_id: request_id.clone(),
    };
    let unbanned = change(&request_id, async || {
        client.unban_machine(request.clone()).await
    })
    .await
    .map_err(|failure| unless_enrolled(failure, &args.machine))?;
    output.one(&MachineView::from(unbanned.machine.unwrap_or_default()))
}

async fn evict(channel: Authenticated, args: ExpelArgs, output: Format) -> Result<(), Failure> {
    let mut client = MachineServiceClient::new(channel);
    let request_id = args.request_id.resolve()?;
    let request = EvictMachineRequest {
        machine: args.machine.clone(),
        comment: args.comment,
        request_id: request_id.clone(),
    };
    let evicted = change(&request_id, async || {
        client.evict_machine(request.clone()).await
    })
    .await
    .map_err(|failure| unless_enrolled(failure, &args.machine))?;
    output.one(&ExpelledView {
        machine: evicted.machine.unwrap_or_default().into(),
        grants_ended: evicted.grants_ended,
    })
}

async fn set(channel: Authenticated, args: SetArgs, output: Format) -> Result<(), Failure> {
    let mut client = MachineServiceClient::new(channel);
    let request_id = args.request_id.resolve()?;
    let request = UpdateMachineRequest {
        machine: args.machine.clone(),
        max_zone: args.change.max_zone().into(),
        agents: args.change.agents(),
        server_names: args.change.server_names(),
        request_id: request_id.clone(),
    };
    let updated = change(&request_id, async || {
        client.update_machine(request.clone()).await
    })
    .await
    .map_err(|failure| unless_enrolled(failure, &args.machine))?;
    output.one(&MachineView::from(updated.machine.unwrap_or_default()))
}

async fn list(channel: Authenticated, args: &ListArgs, output: Format) -> Result<(), Failure> {
    let client = MachineServiceClient::new(channel);
    let get = async |page_size, page_token| {
        let request = ListMachinesRequest {
            page_size,
            page_token,
            include_evicted: args.evicted,
        };
        let page = read(async || client.clone().list_machines(request).await).await?;
        let items = page.machines.into_iter().map(MachineView::from).collect();
        Ok((items, page.next_page_token))
    };
    args.page.show(output, get).await
}

#[derive(Debug, Serialize)]
struct MachineView {
    id: String,
    name: String,
    state: String,
    max_zone: Option<&'static str>,
    /// `None`: any.
    agent_ids: Option<Vec<String>>,
    server_names: Vec<String>,
    created_at: Option<String>,
    certificate_expires_at: Option<String>,
}

impl From<Machine> for MachineView {
    fn from(machine: Machine) -> Self {
        Self {
            max_zone: Zone::from_proto(machine.max_zone).map(Zone::as_str),
            created_at: rfc3339(machine.created_at.as_ref()),
            agent_ids: terms::shown(machine.agents),
            server_names: machine.server_names,
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
        "AGENTS",
        "JOINED",
        "CERTIFICATE ENDS",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.id.clone(),
            self.state.clone(),
            or_dash(self.max_zone.unwrap_or_default()),
            match &self.agent_ids {
                None => "any".to_owned(),
                Some(agents) => agents.join(","),
            },
            short_time(self.created_at.as_deref()),
            short_time(self.certificate_expires_at.as_deref()),
        ]
    }
}

#[derive(Debug, Serialize)]
struct ExpelledView {
    #[serde(flatten)]
    machine: MachineView,
    grants_ended: u64,
}
