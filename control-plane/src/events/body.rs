//! What a change says. Stored as JSON; a variant once released keeps its form.

use std::fmt;

use authguardian_proto::ids::{
    AgentId, ApiKeyId, GrantId, MachineId, ResourceTypeName, SessionId, TaskId,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What happened. No variant holds a secret: edges of every machine read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields are those of the messages in events/v1/event.proto"
)]
pub enum ChangeBody {
    /// Stream `grants`.
    GrantIssued {
        grant_id: GrantId,
        agent_id: AgentId,
        resource_type: ResourceTypeName,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// Stream `grants`.
    GrantRenewed {
        grant_id: GrantId,
        agent_id: AgentId,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// Stream `grants`.
    GrantRevoked {
        grant_id: GrantId,
        agent_id: AgentId,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// Stream `grants`: every matching grant of a lower position.
    GrantsRevoked {
        target: RevocationTarget,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// Stream `grants`.
    GrantExpired {
        grant_id: GrantId,
        agent_id: AgentId,
    },
    /// Stream `identity`.
    ApiKeyRevoked { api_key_id: ApiKeyId },
    /// Stream `identity`: its limits are others.
    ApiKeyChanged { api_key_id: ApiKeyId },
    /// Stream `identity`: its holder has ended it.
    SessionEnded { session_id: SessionId },
    /// Stream `identity`: the set of signing keys is another.
    SigningKeysChanged,
    /// Stream `identity`.
    MachineChanged {
        machine_id: MachineId,
        state: String,
    },
    /// Stream `identity`.
    SuspensionChanged {
        target: SuspensionTarget,
        suspended: bool,
    },
    /// Stream `registry`.
    AgentChanged {
        agent_id: AgentId,
        /// Empty: written before this was said.
        #[serde(default)]
        what: String,
        #[serde(default)]
        machine_id: Option<MachineId>,
        /// 0: none.
        #[serde(default)]
        epoch: i64,
    },
    /// Stream `budgets`.
    BudgetChanged {
        task_id: TaskId,
        what: String,
        percent: u32,
        machine_id: Option<MachineId>,
    },
    /// Stream `policy`: policies or resource types are others.
    PolicyChanged { policy_version: i64 },
}

/// What a suspension stops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "subject", rename_all = "snake_case")]
pub enum SuspensionTarget {
    /// An agent, wherever it calls from.
    Agent(AgentId),
    /// Whoever calls through a machine.
    Machine(MachineId),
    /// Whoever asks for a resource type.
    ResourceType(ResourceTypeName),
    /// Everybody.
    Everything,
}

impl SuspensionTarget {
    /// The stable name of its kind, and what exactly in its text form; empty
    /// for everything.
    pub fn parts(&self) -> (&'static str, String) {
        match self {
            Self::Agent(agent) => ("agent", agent.to_string()),
            Self::Machine(machine) => ("machine", machine.to_string()),
            Self::ResourceType(name) => ("resource_type", name.to_string()),
            Self::Everything => ("everything", String::new()),
        }
    }

    /// Reads what [`SuspensionTarget::parts`] told.
    pub fn from_parts(kind: &str, subject: &str) -> Option<Self> {
        Some(match kind {
            "agent" => Self::Agent(subject.parse().ok()?),
            "machine" => Self::Machine(subject.parse().ok()?),
            "resource_type" => Self::ResourceType(subject.parse().ok()?),
            "everything" if subject.is_empty() => Self::Everything,
            _ => return None,
        })
    }
}

impl fmt::Display for SuspensionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, subject) if subject.is_empty() => f.write_str(kind),
            (kind, subject) => write!(f, "{kind}:{subject}"),
        }
    }
}

/// The grants that a suspension ends.
impl From<SuspensionTarget> for RevocationTarget {
    fn from(target: SuspensionTarget) -> Self {
        match target {
            SuspensionTarget::Agent(agent) => Self::Agent(agent),
            SuspensionTarget::Machine(machine) => Self::Machine(machine),
            SuspensionTarget::ResourceType(name) => Self::ResourceType(name),
            SuspensionTarget::Everything => Self::Everything,
        }
    }
}

/// Which grants a predicate revocation ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "subject", rename_all = "snake_case")]
pub enum RevocationTarget {
    /// All of an agent.
    Agent(AgentId),
    /// All through a machine.
    Machine(MachineId),
    /// All of a resource type.
    ResourceType(ResourceTypeName),
    /// All that a policy, by its `@id`, determined.
    Policy(String),
    /// All.
    Everything,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_an_agent_that_was_written_before_it_said_more_is_read() {
        let old = r#"{"kind":"agent_changed","agent_id":"scout"}"#;
        assert_eq!(
            serde_json::from_str::<ChangeBody>(old).unwrap(),
            ChangeBody::AgentChanged {
                agent_id: "scout".parse().unwrap(),
                what: String::new(),
                machine_id: None,
                epoch: 0,
            }
        );
    }

    #[test]
    fn a_suspensions_target_reads_back_from_its_parts_and_its_json() {
        let machine = MachineId::from_uuid(uuid::Uuid::from_u128(7));
        for target in [
            SuspensionTarget::Agent("scout".parse().unwrap()),
            SuspensionTarget::Machine(machine),
            SuspensionTarget::ResourceType("SAP_API".parse().unwrap()),
            SuspensionTarget::Everything,
        ] {
            let (kind, subject) = target.parts();
            let read = SuspensionTarget::from_parts(kind, &subject);
            assert_eq!(read.as_ref(), Some(&target));
            let json = serde_json::to_string(&target).unwrap();
            assert_eq!(
                serde_json::from_str::<SuspensionTarget>(&json).unwrap(),
                target
            );
        }
        assert_eq!(SuspensionTarget::from_parts("everything", "x"), None);
        assert_eq!(SuspensionTarget::from_parts("agent", ""), None);
    }
}
