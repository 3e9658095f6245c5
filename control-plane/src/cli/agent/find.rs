//! `agent find`: which agents are there.

use std::collections::BTreeMap;

use authguardian_proto::{
    ids::{AgentId, MachineId},
    liveness::Liveness,
    registry::v1::{
        Capability, DiscoverAgentsRequest, FindAgentsRequest, RemoteAgent,
        agent_service_client::AgentServiceClient,
    },
    zone::Zone,
};
use clap::Args;
use serde::Serialize;

use crate::cli::{
    client::{Authenticated, read},
    failure::Failure,
    machine::terms::parse_zone,
    output::{Format, Row},
    page::PageArgs,
    value::{non_empty, or_dash, parse_score, rfc3339, short_time},
};

/// Most bytes of a table's cell that lists capabilities.
const CELL: usize = 60;

/// Everything that is said has to fit.
#[derive(Debug, Args)]
pub(super) struct FindArgs {
    /// What it can do: `finance.invoices`, `finance.invoices@1.2`, or all below
    /// a namespace or version: `finance.*`, `finance.invoices@1.*`
    #[arg(
        long,
        value_name = "CAPABILITY",
        default_value = "",
        hide_default_value = true
    )]
    capability: String,

    /// Trusted at least so far: 0 to 1000, or 0.0 to 1.0 with a point
    #[arg(long, value_name = "TRUST", value_parser = parse_score)]
    min_trust: Option<u32>,

    /// Registered from there: `external`, `trusted_network` or `local_machine`
    #[arg(long, value_name = "ZONE", value_parser = parse_zone)]
    zone: Option<Zone>,

    /// On this machine, `mch_…`
    #[arg(long, value_name = "ID")]
    machine: Option<MachineId>,

    /// With this label; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,

    /// Only this agent; may be given several times
    #[arg(long, value_name = "ID")]
    agent: Vec<AgentId>,

    /// Only those that are live
    #[arg(long)]
    live: bool,

    #[command(flatten)]
    page: PageArgs,
}

impl FindArgs {
    fn query(&self, page_size: u32, page_token: String) -> DiscoverAgentsRequest {
        DiscoverAgentsRequest {
            capability: self.capability.clone(),
            min_trust: self.min_trust.unwrap_or_default(),
            zone: self
                .zone
                .map(|zone| zone.to_proto().into())
                .unwrap_or_default(),
            machine_id: self.machine.map(|id| id.to_string()).unwrap_or_default(),
            worst_liveness: if self.live {
                Liveness::Live.to_proto().into()
            } else {
                0
            },
            labels: self.label.iter().cloned().collect(),
            agent_ids: self.agent.iter().map(ToString::to_string).collect(),
            page_size,
            page_token,
        }
    }

    pub(super) async fn run(
        &self,
        client: AgentServiceClient<Authenticated>,
        output: Format,
    ) -> Result<(), Failure> {
        let get = async |page_size, page_token| {
            let query = self.query(page_size, page_token);
            find(client.clone(), query).await
        };
        self.page.show(output, get).await
    }
}

/// One page of what is asked for, and the token of the next.
async fn find(
    mut client: AgentServiceClient<Authenticated>,
    query: DiscoverAgentsRequest,
) -> Result<(Vec<FoundView>, String), Failure> {
    let request = FindAgentsRequest { query: Some(query) };
    let page = read(async || client.find_agents(request).await).await?;
    let found = page.agents.into_iter().map(FoundView::from);
    Ok((found.collect(), page.next_page_token))
}

/// The registration of one agent, if it has one.
pub(super) async fn registration(
    client: AgentServiceClient<Authenticated>,
    agent: &AgentId,
) -> Result<Option<FoundView>, Failure> {
    let query = DiscoverAgentsRequest {
        agent_ids: vec![agent.to_string()],
        ..DiscoverAgentsRequest::default()
    };
    let (mut found, _) = find(client, query).await?;
    Ok(found.pop())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "expected KEY=VALUE".to_owned())
}

/// A registration, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct FoundView {
    agent_id: String,
    liveness: Option<&'static str>,
    trust: u32,
    machine_id: String,
    api_key_id: String,
    zone: Option<&'static str>,
    capabilities: Vec<CapabilityView>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_address: Option<String>,
    ttl_seconds: u32,
    epoch: u64,
    last_seen: Option<String>,
    registered_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct CapabilityView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
}

impl From<Capability> for CapabilityView {
    fn from(capability: Capability) -> Self {
        Self {
            name: capability.name,
            version: non_empty(capability.version),
            attributes: capability.attributes.into_iter().collect(),
        }
    }
}

impl From<RemoteAgent> for FoundView {
    fn from(agent: RemoteAgent) -> Self {
        Self {
            liveness: Liveness::from_proto(agent.liveness).map(Liveness::as_str),
            trust: agent.trust_level,
            zone: Zone::from_proto(agent.zone).map(Zone::as_str),
            last_seen: rfc3339(agent.last_seen.as_ref()),
            registered_at: rfc3339(agent.registered_at.as_ref()),
            agent_id: agent.agent_id,
            machine_id: agent.machine_id,
            api_key_id: agent.api_key_id,
            capabilities: agent
                .capabilities
                .into_iter()
                .map(CapabilityView::from)
                .collect(),
            labels: agent.labels.into_iter().collect(),
            endpoint: non_empty(agent.endpoint),
            peer_address: non_empty(agent.peer_address),
            ttl_seconds: agent.ttl_seconds,
            epoch: agent.epoch,
        }
    }
}

impl FoundView {
    /// As many capabilities as fit into a cell.
    fn can(&self) -> String {
        let mut cell = String::new();
        for (number, capability) in self.capabilities.iter().enumerate() {
            let version = capability.version.as_deref();
            let version = version.map(|version| format!("@{version}"));
            let text = format!("{}{}", capability.name, version.unwrap_or_default());
            if number > 0 && cell.len() + text.len() > CELL {
                return format!("{cell}, … ({})", self.capabilities.len());
            }
            if number > 0 {
                cell.push_str(", ");
            }
            cell.push_str(&text);
        }
        cell
    }
}

impl Row for FoundView {
    const PLURAL: &'static str = "registered agents";
    const COLUMNS: &'static [&'static str] = &[
        "AGENT",
        "LIVENESS",
        "TRUST",
        "MACHINE",
        "SEEN",
        "CAPABILITIES",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.agent_id.clone(),
            or_dash(self.liveness.unwrap_or_default()),
            self.trust.to_string(),
            self.machine_id.clone(),
            short_time(self.last_seen.as_deref()),
            or_dash(&self.can()),
        ]
    }
}
