//! Where a call came from.

use std::{net::IpAddr, sync::Arc};

use authguardian_proto::{
    ids::AgentId,
    network::Networks,
    reason::{Problem, Reason},
    zone::Zone,
};

/// Where a call came from, as far as that can be believed: the other end of its
/// connection, or the client that a trusted proxy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    source: Source,
    zone: Zone,
    agents: Option<Arc<[AgentId]>>,
}

/// Whose calls they are before a credential says more: what allowlists, limits
/// and the audit log go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The Unix socket, by this user.
    Unix {
        /// The other end's user id, as the kernel tells it.
        uid: u32,
    },
    /// This address, in its canonical form. The unspecified one (`::`) is that
    /// of a client whose proxy did not tell who it is: no network but
    /// `::/0` holds it.
    Address(IpAddr),
}

impl Peer {
    /// From an address, in the zone that it was found to be in.
    pub fn from_address(address: IpAddr, zone: Zone) -> Self {
        Self {
            source: Source::Address(address.to_canonical()),
            zone,
            agents: None,
        }
    }

    /// Over the Unix socket, by a user of this machine; `agents` are the only
    /// ones that this user may speak for, `None` means all that the credential
    /// allows.
    pub fn from_socket(uid: u32, agents: Option<Arc<[AgentId]>>) -> Self {
        Self {
            source: Source::Unix { uid },
            zone: Zone::LocalMachine,
            agents,
        }
    }

    /// Whose calls they are.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The client's address; `None` for the Unix socket.
    pub fn address(&self) -> Option<IpAddr> {
        match self.source {
            Source::Unix { .. } => None,
            Source::Address(address) => Some(address),
        }
    }

    /// How far it is trusted.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Refuses a credential that may not be used from here; no networks mean
    /// anywhere, and the Unix socket counts as loopback.
    pub(super) fn is_within(&self, networks: &Networks) -> Result<(), Problem> {
        if networks.permit(self.address()) {
            return Ok(());
        }
        let detail = "this API key may not be used from your address";
        Err(Problem::new(Reason::AddressNotAllowed, detail))
    }

    /// Refuses a credential that speaks for agents which the user at the other
    /// end may not speak for: with it, that user would reach all of them.
    pub(super) fn may_present(&self, agents: &[AgentId]) -> Result<(), Problem> {
        let Some(allowed) = &self.agents else {
            return Ok(());
        };
        match agents.iter().find(|agent| !allowed.contains(agent)) {
            None => Ok(()),
            Some(agent) => {
                let detail = format!(
                    "this credential speaks for the agent `{agent}`, which your user may not \
                     speak for on this machine"
                );
                Err(Problem::new(Reason::AgentMismatch, detail))
            }
        }
    }
}

impl std::fmt::Display for Source {
    /// The address, or `uid:1000`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix { uid } => write!(f, "uid:{uid}"),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agents(names: &[&str]) -> Arc<[AgentId]> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn a_user_of_the_socket_presents_no_credential_for_agents_beyond_its_own() {
        let owner = Peer::from_socket(0, None);
        assert!(owner.may_present(&agents(&["a", "b"])).is_ok());
        let user = Peer::from_socket(1000, Some(agents(&["a"])));
        assert!(user.may_present(&agents(&["a"])).is_ok());
        for beyond in [agents(&["b"]), agents(&["a", "b"])] {
            let problem = user.may_present(&beyond).unwrap_err();
            assert_eq!(problem.reason, Reason::AgentMismatch);
            assert!(problem.detail.contains("`b`"), "{}", problem.detail);
        }
    }

    #[test]
    fn a_mapped_address_is_the_address() {
        let peer = Peer::from_address("::ffff:192.0.2.1".parse().unwrap(), Zone::External);
        assert_eq!(peer.source().to_string(), "192.0.2.1");
        assert_eq!(Peer::from_socket(7, None).source().to_string(), "uid:7");
    }
}
