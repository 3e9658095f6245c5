//! A registration, and what one shall say.

use std::{
    collections::{BTreeMap, HashSet},
    ops::RangeInclusive,
};

use authguardian_proto::{
    capability::{Capability, check_labels},
    endpoint::Endpoint,
    ids::{AgentId, ApiKeyId, MachineId},
    liveness::Liveness,
    zone::Zone,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{PeerAddress, store};
use crate::{
    error::{Error, Result},
    policy::score,
};

/// Seconds without a sign of life that an agent may ask for.
const TTL: RangeInclusive<u32> = 5..=86_400;

/// An agent as the registry knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Which.
    pub agent_id: AgentId,
    /// Counts registrations of all agents.
    pub epoch: i64,
    /// Where it is: the machine that it belongs to.
    pub machine_id: MachineId,
    /// The key that it belongs to.
    pub api_key_id: ApiKeyId,
    /// Its MCP server.
    pub endpoint: Option<Endpoint>,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
    /// How far it is trusted, as it counts.
    pub trust: u32,
    /// It asked for no more than this.
    pub trust_asked: Option<u32>,
    /// Where it was registered from.
    pub zone: Zone,
    /// Seconds without a sign of life until its edge no longer vouches for it.
    pub ttl_seconds: u32,
    /// What its edge says of it.
    pub own_liveness: Liveness,
    /// That, or what its edge is itself, the worse.
    pub liveness: Liveness,
    /// Only a new registration can make it live.
    pub ended: bool,
    /// When its edge last vouched for it.
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// First, since it was last gone.
    #[serde(with = "time::serde::rfc3339")]
    pub registered_at: OffsetDateTime,
    /// Last.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
    /// Where edges of other machines reach its edge.
    pub peer_address: Option<PeerAddress>,
}

impl Registration {
    /// What it is found by.
    pub(super) fn terms(&self) -> HashSet<String> {
        let capabilities = self.capabilities.iter().flat_map(Capability::terms);
        let labels = self
            .labels
            .iter()
            .map(|(key, value)| label_term(key, value));
        capabilities.chain(labels).collect()
    }

    /// Whether it is another's than this machine's and key's.
    pub(super) fn belongs_to(&self, machine: MachineId, key: ApiKeyId) -> bool {
        (self.machine_id, self.api_key_id) == (machine, key)
    }
}

/// The term of a label; no capability has `=` in it.
pub(super) fn label_term(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// How far a registration is trusted: what operators say (`None`: nothing), or
/// less where it asked for less or its zone allows no more.
pub(super) fn effective_trust(operators: Option<u32>, asked: Option<u32>, zone: Zone) -> u32 {
    score::effective_trust(operators, zone).min(asked.unwrap_or(score::MAX))
}

/// What a registration shall say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRegistration {
    /// Which agent.
    pub agent_id: AgentId,
    /// What it can do; already checked.
    pub capabilities: Vec<Capability>,
    /// Its MCP server.
    pub endpoint: Option<Endpoint>,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
    /// Be trusted no further than this; `None`: as operators say.
    pub trust: Option<u32>,
    /// Seconds, 5 to 86,400; `None`: as configured.
    pub ttl_seconds: Option<u32>,
}

impl NewRegistration {
    pub(super) fn check(&self) -> Result<()> {
        check_labels(&self.labels)?;
        if self.trust.is_some_and(|trust| trust > score::MAX) {
            return Err(Error::invalid("trust_level", "expected 0 to 1000"));
        }
        if self.ttl_seconds.is_some_and(|ttl| !TTL.contains(&ttl)) {
            return Err(Error::invalid(
                "ttl_seconds",
                format!("expected {} to {}", TTL.start(), TTL.end()),
            ));
        }
        Ok(())
    }
}

/// Those of these agents that are registered, or that operators say something of.
///
/// # Errors
/// When the database refuses.
pub async fn known_among(
    connection: &mut PgConnection,
    agents: &[AgentId],
) -> Result<HashSet<AgentId>> {
    store::known_among(connection, agents).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_trusted_further_than_operators_the_agent_and_its_zone_say() {
        for (operators, asked, zone, effective) in [
            (Some(800), None, Zone::LocalMachine, 800),
            (Some(800), Some(500), Zone::LocalMachine, 500),
            (Some(800), Some(500), Zone::External, 500),
            (Some(1000), None, Zone::LocalMachine, 900),
            (Some(800), None, Zone::TrustedNetwork, 700),
            (None, None, Zone::LocalMachine, 300),
            (None, Some(0), Zone::LocalMachine, 0),
            (Some(100), Some(500), Zone::LocalMachine, 100),
        ] {
            assert_eq!(effective_trust(operators, asked, zone), effective);
        }
    }
}
