//! What a machine is for, as flags of several verbs.

use authguardian_proto::{
    common::v1::Zone as ZoneMessage,
    identity::v1::{MachineAgents, ServerNames},
    ids::AgentId,
    zone::Zone,
};
use clap::Args;

/// What a machine that is to join will be for.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewTermsArgs {
    /// Calls through the machine never count for more: local_machine, trusted_network or external
    #[arg(long, value_name = "ZONE", default_value = "local_machine", value_parser = parse_zone)]
    max_zone: Zone,

    /// Agent that the machine may serve; repeatable; without it, any
    #[arg(long = "agent", value_name = "ID")]
    agents: Vec<AgentId>,

    /// DNS name or IP address that the machine's certificates also carry; repeatable
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<String>,
}

impl NewTermsArgs {
    pub(in crate::cli) fn max_zone(&self) -> ZoneMessage {
        self.max_zone.to_proto()
    }

    pub(in crate::cli) fn agents(&self) -> Option<MachineAgents> {
        (!self.agents.is_empty()).then(|| only(&self.agents))
    }

    pub(in crate::cli) fn server_names(&self) -> Vec<String> {
        self.server_names.clone()
    }
}

/// What is to change of a machine: at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct TermsChangeArgs {
    /// Calls through the machine never count for more: local_machine, trusted_network or external
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    max_zone: Option<Zone>,

    /// Agent that the machine may serve; repeatable; no others from now on
    #[arg(long = "agent", value_name = "ID", conflicts_with = "any_agent")]
    agents: Vec<AgentId>,

    /// The machine may serve any agent
    #[arg(long)]
    any_agent: bool,

    /// DNS name or IP address that the machine's certificates also carry; repeatable; no others from now on
    #[arg(
        long = "server-name",
        value_name = "NAME",
        conflicts_with = "no_server_names"
    )]
    server_names: Vec<String>,

    /// The machine's certificates carry no further name
    #[arg(long)]
    no_server_names: bool,
}

impl TermsChangeArgs {
    pub(super) fn max_zone(&self) -> ZoneMessage {
        self.max_zone
            .map_or(ZoneMessage::Unspecified, Zone::to_proto)
    }

    pub(super) fn agents(&self) -> Option<MachineAgents> {
        if self.any_agent {
            return Some(MachineAgents {
                any: true,
                agent_ids: Vec::new(),
            });
        }
        (!self.agents.is_empty()).then(|| only(&self.agents))
    }

    pub(super) fn server_names(&self) -> Option<ServerNames> {
        let named = self.no_server_names || !self.server_names.is_empty();
        named.then(|| ServerNames {
            names: self.server_names.clone(),
        })
    }
}

fn only(agents: &[AgentId]) -> MachineAgents {
    MachineAgents {
        any: false,
        agent_ids: agents.iter().map(ToString::to_string).collect(),
    }
}

/// The agents of a message as they are shown: `None` is any.
pub(in crate::cli) fn shown(agents: Option<MachineAgents>) -> Option<Vec<String>> {
    agents
        .filter(|agents| !agents.any)
        .map(|agents| agents.agent_ids)
}

pub(in crate::cli) fn parse_zone(text: &str) -> Result<Zone, String> {
    Zone::parse(text)
        .ok_or_else(|| "expected `local_machine`, `trusted_network` or `external`".to_owned())
}
