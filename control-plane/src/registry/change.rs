//! What the stream `registry` is told.

use authguardian_proto::{
    ids::{AgentId, MachineId},
    liveness::Liveness,
};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Registration;
use crate::{
    error::Result,
    events::{self, ChangeBody, Stream},
};

/// What has become of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Operators said something of it.
    Put,
    /// Operators say nothing of it any more.
    Deleted,
    /// It has a registration of a new epoch.
    Registered,
    /// The same registration says something else.
    Updated,
    /// It has taken its registration back.
    Deregistered,
    /// An operator has ended its registration.
    Released,
    /// It can be expected to answer, or not.
    Is(Liveness),
}

impl What {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Deleted => "deleted",
            Self::Registered => "registered",
            Self::Updated => "updated",
            Self::Deregistered => "deregistered",
            Self::Released => "released",
            Self::Is(liveness) => liveness.as_str(),
        }
    }
}

/// Something that has changed of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentChange {
    /// Which.
    pub agent_id: AgentId,
    /// What.
    pub what: What,
    /// Machine and epoch of its registration; `None`: it has none.
    pub registration: Option<(MachineId, i64)>,
}

impl AgentChange {
    pub(super) fn of(registration: &Registration, what: What) -> Self {
        Self {
            agent_id: registration.agent_id.clone(),
            what,
            registration: Some((registration.machine_id, registration.epoch)),
        }
    }

    fn body(&self) -> ChangeBody {
        ChangeBody::AgentChanged {
            agent_id: self.agent_id.clone(),
            what: self.what.as_str().to_owned(),
            machine_id: self.registration.map(|(machine, _)| machine),
            epoch: self.registration.map_or(0, |(_, epoch)| epoch),
        }
    }
}

/// Appends to stream `registry`; **last** in a transaction.
pub(super) async fn append(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    changes: &[AgentChange],
) -> Result<()> {
    let bodies: Vec<ChangeBody> = changes.iter().map(AgentChange::body).collect();
    events::append(connection, Stream::Registry, now, &bodies).await?;
    Ok(())
}
