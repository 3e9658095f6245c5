//! A change at the control plane, as far as this edge cares.

use authguardian_proto::{
    events::v1::{self as pb, change::Body, grants_revoked::Target},
    ids::{AgentId, ApiKeyId, MachineId},
};

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Grants were given, renewed, ended or ran out.
    Grants(Subject),
    /// An API key was ended, and with it its sessions.
    ApiKeyRevoked(ApiKeyId),
    /// Changes were missed: everything may be different.
    Everything,
}

/// Whose grants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// One agent's.
    Agent(AgentId),
    /// Those through one machine.
    Machine(MachineId),
    /// Anybody's, as far as can be told.
    Anyone,
}

impl Change {
    /// Reads a message; `None` for kinds that nothing here depends on, and for
    /// kinds of a newer control plane.
    pub(super) fn read(message: pb::Change) -> Option<Self> {
        let agent = |id: String| {
            id.parse().map_or(Self::Grants(Subject::Anyone), |id| {
                Self::Grants(Subject::Agent(id))
            })
        };
        Some(match message.body? {
            Body::GrantIssued(body) => agent(body.agent_id),
            Body::GrantRenewed(body) => agent(body.agent_id),
            Body::GrantRevoked(body) => agent(body.agent_id),
            Body::GrantExpired(body) => agent(body.agent_id),
            Body::GrantsRevoked(body) => match body.target {
                Some(Target::AgentId(id)) => agent(id),
                Some(Target::MachineId(id)) => match id.parse() {
                    Ok(id) => Self::Grants(Subject::Machine(id)),
                    Err(_) => Self::Grants(Subject::Anyone),
                },
                _ => Self::Grants(Subject::Anyone),
            },
            Body::ApiKeyRevoked(body) => match body.api_key_id.parse() {
                Ok(id) => Self::ApiKeyRevoked(id),
                // a key that cannot be named is treated as every key
                Err(_) => Self::Everything,
            },
            Body::SigningKeysChanged(_)
            | Body::MachineChanged(_)
            | Body::AgentChanged(_)
            | Body::PolicyChanged(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Body) -> Option<Change> {
        Change::read(pb::Change {
            body: Some(body),
            ..pb::Change::default()
        })
    }

    #[test]
    fn grants_changes_name_their_agent() {
        let issued = pb::GrantIssued {
            agent_id: "data_analyst".into(),
            ..Default::default()
        };
        assert_eq!(
            read(Body::GrantIssued(issued)),
            Some(Change::Grants(Subject::Agent(
                "data_analyst".parse().unwrap()
            )))
        );
    }

    #[test]
    fn a_predicate_that_cannot_be_matched_here_concerns_anyone() {
        let revoked = pb::GrantsRevoked {
            target: Some(Target::PolicyId("p1".into())),
            ..Default::default()
        };
        assert_eq!(
            read(Body::GrantsRevoked(revoked)),
            Some(Change::Grants(Subject::Anyone))
        );
    }

    #[test]
    fn a_revoked_key_that_cannot_be_read_counts_as_all() {
        let revoked = pb::ApiKeyRevoked {
            api_key_id: "?".into(),
        };
        assert_eq!(read(Body::ApiKeyRevoked(revoked)), Some(Change::Everything));
        assert_eq!(Change::read(pb::Change::default()), None);
    }
}
