//! What a change says. Stored as JSON; a variant once released keeps its form.

use authguardian_proto::ids::{AgentId, ApiKeyId, GrantId, MachineId, ResourceTypeName};
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
    /// Stream `identity`: the set of signing keys is another.
    SigningKeysChanged,
    /// Stream `identity`.
    MachineChanged {
        machine_id: MachineId,
        state: String,
    },
    /// Stream `registry`.
    AgentChanged { agent_id: AgentId },
    /// Stream `policy`: policies or resource types are others.
    PolicyChanged { policy_version: i64 },
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
