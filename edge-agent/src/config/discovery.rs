//! `[discovery]`: agents and edges that are known without asking anybody, and how
//! others are found.

use std::collections::{BTreeMap, HashSet};

use authguardian_discovery::Settings as Mdns;
use authguardian_proto::{
    capability::{Capability, MAX_BYTES, MAX_CAPABILITIES, check_labels},
    endpoint::Endpoint,
    ids::{AgentId, MachineId},
    reason::Problem,
};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Gossip};
use crate::trust::PeerAddress;

/// Most agents, and most peers, that can be written down.
const MAX: usize = 1000;
const AGENTS: &str = "discovery.agents";
const PEERS: &str = "discovery.peers";

/// Agents and edges that are known without asking anybody, and how others are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Discovery {
    /// Agents that are found also where the registry does not know them.
    pub agents: Vec<StaticAgent>,
    /// Other edges.
    pub peers: Vec<StaticPeer>,
    /// Whether edges tell each other of their agents.
    pub gossip: Gossip,
    /// Whether edges of the local network find each other, and the control plane.
    pub mdns: Mdns,
}

/// An agent that the operator of this edge has written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticAgent {
    /// Which.
    pub agent_id: AgentId,
    /// Where it is, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
    /// What it can do: `name` or `name@version`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// Its MCP server, as its own machine reaches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// How far it is trusted, 0 to 1000.
    #[serde(default)]
    pub trust_level: u32,
    /// For choosing among agents.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Another edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticPeer {
    /// Its listener for edges.
    pub address: PeerAddress,
    /// Which machine it has to be; missing: any of the trust domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<MachineId>,
}

impl StaticAgent {
    /// Its capabilities, read.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn capabilities(&self) -> Result<Vec<Capability>, String> {
        let read = |text: &String| {
            let read = text.parse::<Capability>();
            read.map_err(|error| format!("has the capability `{text}`: {error}"))
        };
        self.capabilities.iter().map(read).collect()
    }

    /// Its endpoint, read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn endpoint(&self) -> Result<Option<Endpoint>, String> {
        let read = |text: &String| {
            let read = text.parse::<Endpoint>();
            read.map_err(|error| format!("has the endpoint `{text}`: {error}"))
        };
        self.endpoint.as_ref().map(read).transpose()
    }

    fn check(&self) -> Result<(), String> {
        let capabilities = self.capabilities()?;
        let different: HashSet<_> = capabilities.iter().collect();
        if different.len() < capabilities.len() {
            return Err("has a capability twice".to_owned());
        }
        let bytes = self.capabilities.iter().map(String::len).sum::<usize>();
        if capabilities.len() > MAX_CAPABILITIES || bytes > MAX_BYTES {
            return Err(format!("has more than {MAX_CAPABILITIES} capabilities"));
        }
        self.endpoint()?;
        check_labels(&self.labels)
            .map_err(|Problem { detail, .. }| format!("`labels` {detail}"))?;
        if self.trust_level > 1000 {
            return Err("has a trust_level above 1000".to_owned());
        }
        Ok(())
    }
}

impl Discovery {
    /// `is_reached`: other edges can call this one.
    pub(super) fn validate(&self, is_reached: bool) -> Result<(), ConfigError> {
        let mut ids = HashSet::new();
        for agent in &self.agents {
            let id = &agent.agent_id;
            let wrong = |problem| ConfigError::value(AGENTS, format!("`{id}` {problem}"));
            agent.check().map_err(wrong)?;
            if !ids.insert(id) {
                return Err(ConfigError::value(AGENTS, format!("has `{id}` twice")));
            }
        }
        for (key, count) in [(AGENTS, self.agents.len()), (PEERS, self.peers.len())] {
            if count > MAX {
                let problem = format!("has {count} entries, expected at most {MAX}");
                return Err(ConfigError::value(key, problem));
            }
        }
        self.gossip.validate(is_reached)?;
        self.mdns
            .check()
            .map_err(|problem| ConfigError::value("discovery.mdns.interfaces", problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Discovery, String> {
        let read: Discovery = toml::from_str(text).map_err(|error| error.to_string())?;
        read.validate(false).map_err(|error| error.to_string())?;
        Ok(read)
    }

    #[test]
    fn agents_and_peers_are_read() {
        let read = read(
            r#"
            [[agents]]
            agent_id = "fallback"
            machine_id = "mch_0000000000000000000007"
            capabilities = ["finance.invoices@1.2", "mail"]
            endpoint = "http://127.0.0.1:8000/mcp"
            trust_level = 400
            labels = { region = "eu" }
            [[agents]]
            agent_id = "bare"
            [[peers]]
            address = "edge-b.example:3005"
            [[peers]]
            address = "[::1]:3005"
            machine_id = "mch_0000000000000000000007"
            "#,
        );
        let read = read.unwrap();
        assert_eq!(read.agents[0].capabilities().unwrap().len(), 2);
        assert_eq!(read.agents[1].trust_level, 0, "nobody vouches for it");
        assert_eq!(read.peers.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let agent = |more: &str| format!("[[agents]]\nagent_id = \"a\"\n{more}");
        for (text, named) in [
            (agent("capabilities = [\"a b\"]"), "`a b`"),
            (agent("capabilities = [\"a\", \"a\"]"), "twice"),
            (
                agent("endpoint = \"http://10.0.0.1/\""),
                "`http://10.0.0.1/`",
            ),
            (agent("trust_level = 1001"), "trust_level"),
            (agent("labels = { \"a b\" = \"x\" }"), "labels"),
            (agent("colour = \"red\""), "colour"),
            (agent("[[agents]]\nagent_id = \"a\""), "`a` twice"),
            ("[[agents]]\nagent_id = \"\"".to_owned(), "agent_id"),
            ("[[peers]]\naddress = \"edge\"".to_owned(), "host:port"),
            ("[[peers]]\naddress = \"edge:0\"".to_owned(), "host:port"),
            ("[[peers]]\naddress = \"a@edge:1\"".to_owned(), "host:port"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
