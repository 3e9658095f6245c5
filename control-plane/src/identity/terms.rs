//! What an operator lays down about a machine: how far it is trusted, whom it
//! may serve, and what it is called besides.

use std::net::IpAddr;

use authguardian_proto::{ids::AgentId, zone::Zone};
use rustls_pki_types::DnsName;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most agents that are named.
const MAX_AGENTS: usize = 100;

/// Most names of one machine.
const MAX_SERVER_NAMES: usize = 20;

/// What a machine is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Its calls never count for more.
    pub max_zone: Zone,
    /// Whom it may serve.
    pub agents: Serves,
    /// What its certificates carry beside its id, for TLS of its own faces.
    pub server_names: Vec<ServerName>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            max_zone: Zone::LocalMachine,
            agents: Serves::Any,
            server_names: Vec::new(),
        }
    }
}

/// Agents that a machine may serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serves {
    /// All that there are.
    Any,
    /// These, 1 to 100, each once.
    Only(Vec<AgentId>),
}

/// What is to change; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TermsChange {
    /// As [`Terms::max_zone`].
    pub max_zone: Option<Zone>,
    /// As [`Terms::agents`].
    pub agents: Option<Serves>,
    /// As [`Terms::server_names`].
    pub server_names: Option<Vec<ServerName>>,
}

impl Terms {
    /// Takes what is to change; tells whether sessions that were made before
    /// could say more than the machine may now, or less.
    pub(super) fn take(&mut self, change: &TermsChange) -> bool {
        let before = (self.max_zone, self.agents.clone());
        if let Some(max_zone) = change.max_zone {
            self.max_zone = max_zone;
        }
        if let Some(agents) = &change.agents {
            self.agents = agents.clone();
        }
        if let Some(names) = &change.server_names {
            self.server_names.clone_from(names);
        }
        before != (self.max_zone, self.agents.clone())
    }
}

impl Serves {
    /// Those named.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`agents`) for none and for too many.
    pub fn only(mut agents: Vec<AgentId>) -> Result<Self> {
        agents.sort_unstable();
        agents.dedup();
        if agents.is_empty() || agents.len() > MAX_AGENTS {
            return Err(Error::invalid(
                "agents",
                format!("expected any, or 1 to {MAX_AGENTS} agents"),
            ));
        }
        Ok(Self::Only(agents))
    }

    /// Whether an agent is among them.
    pub fn includes(&self, agent: &AgentId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(agents) => agents.contains(agent),
        }
    }
}

/// A DNS name in lower case, or an IP address in its usual form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerName(String);

impl ServerName {
    /// Reads one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` (`server_names`).
    pub fn parse(text: &str) -> Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().to_string()));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        match DnsName::try_from(name.as_str()) {
            Ok(_) => Ok(Self(name)),
            Err(_) => Err(Error::invalid(
                "server_names",
                format!(
                    "`{}` is neither a DNS name nor an IP address",
                    text.escape_default()
                ),
            )),
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks the names that a machine is to have: none may be one that the
/// control plane is known by, or the machine could pose as it.
///
/// # Errors
/// `INVALID_ARGUMENT` (`server_names`).
pub(super) fn check_names(names: &mut Vec<ServerName>, own: &[String]) -> Result<()> {
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SERVER_NAMES {
        return Err(Error::invalid(
            "server_names",
            format!("expected {MAX_SERVER_NAMES} names at most"),
        ));
    }
    let is_own = |name: &&ServerName| {
        own.iter()
            .any(|own| ServerName::parse(own).is_ok_and(|own| own == **name))
    };
    match names.iter().find(is_own) {
        None => Ok(()),
        Some(name) => Err(Error::invalid(
            "server_names",
            format!(
                "`{}` is a name of the control plane, which no machine may have",
                name.as_str()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(texts: &[&str]) -> Vec<ServerName> {
        texts
            .iter()
            .map(|text| ServerName::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn a_name_has_one_form() {
        let same = [
            ("Build-7.Example.org.", "build-7.example.org"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:DB8:0::7", "2001:db8::7"),
        ];
        for (text, name) in same {
            assert_eq!(ServerName::parse(text).unwrap().as_str(), name);
        }
        for bad in ["", ".", "a b", "*.example.org", "10.0.0.7/8", "é", "a\n"] {
            let error = ServerName::parse(bad).unwrap_err();
            assert_eq!(
                error.problem().field.as_deref(),
                Some("server_names"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_machine_is_called_as_the_control_plane() {
        let own = ["CP.example.org".to_owned(), "0:0:0:0:0:0:0:1".to_owned()];
        for name in ["cp.example.org", "::1"] {
            assert!(check_names(&mut names(&[name]), &own).is_err(), "{name}");
        }
        let mut many = names(&["b.example", "a.example", "b.example"]);
        check_names(&mut many, &own).unwrap();
        assert_eq!(many, names(&["a.example", "b.example"]));
        let mut too_many: Vec<_> = (0..=MAX_SERVER_NAMES)
            .map(|number| ServerName::parse(&format!("n{number}.example")).unwrap())
            .collect();
        assert!(check_names(&mut too_many, &own).is_err());
    }

    #[test]
    fn only_zone_and_agents_concern_sessions() {
        let mut terms = Terms::default();
        let names = TermsChange {
            server_names: Some(names(&["a.example"])),
            ..TermsChange::default()
        };
        assert!(!terms.take(&names));
        assert_eq!(terms.server_names.len(), 1);
        let agents = TermsChange {
            agents: Some(Serves::only(vec!["a".parse().unwrap()]).unwrap()),
            ..TermsChange::default()
        };
        assert!(terms.take(&agents));
        assert!(!terms.take(&agents), "as it was");
        assert!(terms.agents.includes(&"a".parse().unwrap()));
        assert!(!terms.agents.includes(&"b".parse().unwrap()));
        assert!(Serves::only(Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_reads_back(text in "\\PC{0,40}") {
            if let Ok(name) = ServerName::parse(&text) {
                prop_assert_eq!(ServerName::parse(name.as_str()).unwrap(), name);
            }
        }
    }
}
