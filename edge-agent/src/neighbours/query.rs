//! What has to fit.

use std::collections::{BTreeMap, HashSet};

use authguardian_proto::{
    agent_record::AgentRecord,
    capability::CapabilityQuery,
    ids::{AgentId, MachineId},
    liveness::Liveness,
    zone::Zone,
};

/// What has to fit, all of it; the same questions as the registry answers.
#[derive(Debug, Clone)]
pub struct Query {
    /// `None`: whatever it can do.
    pub capability: Option<CapabilityQuery>,
    /// Trusted no less than this.
    pub min_trust: u32,
    /// Registered from there; `None`: from anywhere.
    pub zone: Option<Zone>,
    /// At this machine; `None`: at any.
    pub machine: Option<MachineId>,
    /// At most as bad as this.
    pub worst_liveness: Liveness,
    /// All of them, with these values.
    pub labels: BTreeMap<String, String>,
    /// Only these; `None`: all.
    pub agents: Option<HashSet<AgentId>>,
}

impl Default for Query {
    /// Everybody.
    fn default() -> Self {
        Self {
            capability: None,
            min_trust: 0,
            zone: None,
            machine: None,
            worst_liveness: Liveness::Gone,
            labels: BTreeMap::new(),
            agents: None,
        }
    }
}

impl Query {
    /// Whether what a record says fits; liveness is not of it.
    pub fn fits(&self, record: &AgentRecord) -> bool {
        let capable = |query: &CapabilityQuery| query.matches(&record.capabilities);
        let has_label =
            |(key, value): (&String, &String)| record.labels.get(key).is_some_and(|v| v == value);
        record.trust >= self.min_trust
            && self.zone.is_none_or(|zone| zone == record.zone)
            && self.machine.is_none_or(|machine| machine == record.machine)
            && self
                .agents
                .as_ref()
                .is_none_or(|agents| agents.contains(&record.sub))
            && self.labels.iter().all(has_label)
            && self.capability.as_ref().is_none_or(capable)
    }
}
