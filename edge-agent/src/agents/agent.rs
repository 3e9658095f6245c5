//! One agent that is registered through this edge.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::{
    capability::Capability,
    endpoint::Endpoint,
    ids::{AgentId, ApiKeyId, MachineId},
    registry::v1::OwnAgent,
    zone::Zone,
};
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;

/// What the registry has last said of an agent of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Which.
    pub agent_id: AgentId,
    /// This machine.
    pub machine_id: MachineId,
    /// The key that registered it.
    pub api_key_id: ApiKeyId,
    /// Which registration of it.
    pub epoch: u64,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// How far it is trusted, 0 to 1000.
    pub trust_level: u32,
    /// Where it was registered from.
    pub zone: Zone,
    /// Its MCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// For choosing among agents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was first registered, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<String>,
    /// Seconds without a sign of life after which this edge no longer vouches for it.
    pub ttl_seconds: u32,
}

/// An answer of the registry that this edge cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry's answer cannot be understood by this edge")]
pub struct NotUnderstood;

impl Agent {
    /// Reads a message, and the signed record that came with it.
    pub(super) fn read(own: OwnAgent) -> Result<(Self, Option<String>), NotUnderstood> {
        let agent = own.agent.ok_or(NotUnderstood)?;
        let capabilities = agent.capabilities.into_iter();
        let endpoint = (!agent.endpoint.is_empty()).then(|| agent.endpoint.parse());
        let read = Self {
            agent_id: agent.agent_id.parse().map_err(|_| NotUnderstood)?,
            machine_id: agent.machine_id.parse().map_err(|_| NotUnderstood)?,
            api_key_id: own.api_key_id.parse().map_err(|_| NotUnderstood)?,
            epoch: agent.epoch,
            capabilities: capabilities
                .map(|capability| Capability::from_message(capability, ""))
                .collect::<Result<_, _>>()
                .map_err(|_| NotUnderstood)?,
            trust_level: agent.trust_level,
            zone: Zone::from_proto(agent.zone).ok_or(NotUnderstood)?,
            endpoint: endpoint.transpose().map_err(|_| NotUnderstood)?,
            labels: agent.labels.into_iter().collect(),
            registered_at: rfc3339(agent.registered_at),
            ttl_seconds: agent.ttl_seconds.max(1),
        };
        let record = (!own.signed_record.is_empty()).then_some(own.signed_record);
        Ok((read, record))
    }

    /// How long it counts as there after a sign of life.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds.into())
    }
}
