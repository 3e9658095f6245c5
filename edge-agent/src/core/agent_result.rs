//! An agent of the registry, as results tell it.

use std::collections::BTreeMap;

use authguardian_proto::{
    agent_record::AgentRecord, capability::Capability, liveness::Liveness,
    registry::v1::RemoteAgent, zone::Zone,
};
use schemars::JsonSchema;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::decision::{given, rfc3339};
use crate::agents::Registered;

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentResult {
    /// Which.
    pub agent_id: String,
    /// The machine that it is registered through; missing where nobody says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// What it can do: `name` or `name@version`, with attributes an object.
    pub capabilities: Vec<CapabilityResult>,
    /// How far it is trusted, 0 to 1000.
    pub trust_level: u32,
    /// Where it was registered from: `local_machine`, `trusted_network` or `external`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether it can be expected to answer: `live`, `suspect` or `gone`.
    pub liveness: String,
    /// When its edge last vouched for it, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// URL of its MCP server, as its own machine reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
    /// When it was first registered, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<String>,
    /// Which registration it is; a later one of the same agent has a higher number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Seconds without a sign of life until its edge no longer vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u32>,
}

/// Something that an agent can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum CapabilityResult {
    /// `name` or `name@version`.
    Short(String),
    /// With attributes.
    Long {
        /// Namespaces and name.
        name: String,
        /// Which version of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// More about it.
        attributes: BTreeMap<String, String>,
    },
}

impl From<Capability> for CapabilityResult {
    fn from(capability: Capability) -> Self {
        if capability.attributes.is_empty() {
            return Self::Short(capability.to_string());
        }
        Self::Long {
            name: capability.name,
            version: capability.version,
            attributes: capability.attributes,
        }
    }
}

impl From<RemoteAgent> for AgentResult {
    fn from(agent: RemoteAgent) -> Self {
        let capabilities = agent.capabilities.into_iter().map(Capability::from);
        let liveness = Liveness::from_proto(agent.liveness).unwrap_or(Liveness::Gone);
        Self {
            agent_id: agent.agent_id,
            machine_id: given(agent.machine_id),
            capabilities: capabilities.map(CapabilityResult::from).collect(),
            trust_level: agent.trust_level,
            zone: Zone::from_proto(agent.zone).map(|zone| zone.as_str().to_owned()),
            liveness: liveness.as_str().to_owned(),
            last_seen: rfc3339(agent.last_seen),
            endpoint: given(agent.endpoint),
            labels: agent.labels.into_iter().collect(),
            registered_at: rfc3339(agent.registered_at),
            epoch: Some(agent.epoch),
            ttl_seconds: Some(agent.ttl_seconds),
        }
    }
}

impl AgentResult {
    /// An agent of this edge, last heard at this time, seconds since 1970.
    pub(super) fn of_own(own: Registered, liveness: Liveness, last_seen: i64) -> Self {
        let capabilities = own.capabilities.into_iter();
        Self {
            agent_id: own.agent_id.to_string(),
            machine_id: Some(own.machine_id.to_string()),
            capabilities: capabilities.map(CapabilityResult::from).collect(),
            trust_level: own.trust_level,
            zone: Some(own.zone.as_str().to_owned()),
            liveness: liveness.as_str().to_owned(),
            last_seen: unix(last_seen),
            endpoint: own.endpoint.map(String::from),
            labels: own.labels,
            registered_at: unix(own.registered_at),
            epoch: Some(own.epoch),
            ttl_seconds: Some(own.ttl_seconds),
        }
    }

    /// An agent that another edge has told of.
    pub(super) fn of_record(record: &AgentRecord, liveness: Liveness, last_seen: i64) -> Self {
        let capabilities = record.capabilities.iter().cloned();
        Self {
            agent_id: record.sub.to_string(),
            machine_id: Some(record.machine.to_string()),
            capabilities: capabilities.map(CapabilityResult::from).collect(),
            trust_level: record.trust,
            zone: Some(record.zone.as_str().to_owned()),
            liveness: liveness.as_str().to_owned(),
            last_seen: unix(last_seen),
            endpoint: record.endpoint.clone().map(String::from),
            labels: record.labels.clone(),
            registered_at: None,
            epoch: Some(record.epoch),
            ttl_seconds: None,
        }
    }
}

fn unix(seconds: i64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    time.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn capabilities_are_short_unless_there_is_more_to_say() {
        let mut capability: Capability = "finance.invoices@1.2".parse().unwrap();
        let told = |capability: &Capability| {
            serde_json::to_value(CapabilityResult::from(capability.clone())).unwrap()
        };
        assert_eq!(told(&capability), json!("finance.invoices@1.2"));
        capability.attributes.insert("max".into(), "10".into());
        assert_eq!(
            told(&capability),
            json!({"name": "finance.invoices", "version": "1.2", "attributes": {"max": "10"}})
        );
    }

    #[test]
    fn what_nobody_says_is_left_out() {
        let agent = AgentResult::from(RemoteAgent {
            agent_id: "a".into(),
            ..RemoteAgent::default()
        });
        let told = serde_json::to_value(agent).unwrap();
        for missing in ["machine_id", "zone", "endpoint", "last_seen"] {
            assert_eq!(told.get(missing), None, "{missing}");
        }
        assert_eq!(told["liveness"], "gone");
    }
}
