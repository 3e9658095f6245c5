//! What becomes of registrations.

use authguardian_proto::liveness::Liveness;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{AgentChange, Heartbeat, Registration, What, store};
use crate::error::Result;

/// What is to become of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    /// What its edge says of it.
    pub(super) own_liveness: Liveness,
    /// That, or what its edge is itself, the worse.
    pub(super) liveness: Liveness,
    /// Only a new registration can make it live.
    pub(super) ended: bool,
    /// When its edge last vouched for it.
    pub(super) vouched_at: OffsetDateTime,
}

impl Fate {
    /// As it is.
    pub(super) fn of(registration: &Registration) -> Self {
        Self {
            own_liveness: registration.own_liveness,
            liveness: registration.liveness,
            ended: registration.ended,
            vouched_at: registration.last_seen,
        }
    }

    /// With an edge that is this.
    #[must_use]
    pub(super) fn under(self, edge: Liveness) -> Self {
        if self.ended {
            return self;
        }
        Self {
            liveness: self.own_liveness.max(edge),
            ..self
        }
    }

    /// When its edge says this of it at a time.
    #[must_use]
    pub(super) fn said(self, own_liveness: Liveness, now: OffsetDateTime) -> Self {
        let vouched_at = match own_liveness {
            Liveness::Live => now,
            Liveness::Suspect | Liveness::Gone => self.vouched_at,
        };
        Self {
            own_liveness,
            vouched_at,
            ..self
        }
    }

    /// When its key or machine counts no more.
    #[must_use]
    pub(super) fn orphaned(self) -> Self {
        Self {
            own_liveness: Liveness::Gone,
            liveness: Liveness::Gone,
            ended: true,
            ..self
        }
    }

    /// The registration as it is with this fate, its edge heard with a heartbeat.
    pub(super) fn applied(self, to: &Registration, heartbeat: &Heartbeat) -> Registration {
        Registration {
            own_liveness: self.own_liveness,
            liveness: self.liveness,
            ended: self.ended,
            last_seen: self.vouched_at,
            peer_address: heartbeat.peer_address.clone(),
            ..to.clone()
        }
    }

    /// Whether anything but the time is another.
    fn differs(self, registration: &Registration) -> bool {
        let before = Self {
            vouched_at: self.vouched_at,
            ..Self::of(registration)
        };
        self != before
    }
}

/// Writes the fates that are others than before; returns what is to be told.
pub(super) async fn write(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    fates: impl Iterator<Item = (&Registration, Fate)>,
) -> Result<Vec<AgentChange>> {
    let others: Vec<(&Registration, Fate)> = fates
        .filter(|(registration, fate)| fate.differs(registration))
        .collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let judged = store::judge_registrations(connection, &others, now).await?;
    Ok(others
        .into_iter()
        .filter(|(registration, fate)| {
            fate.liveness != registration.liveness && judged.contains(&registration.agent_id)
        })
        .map(|(registration, fate)| AgentChange::of(registration, What::Is(fate.liveness)))
        .collect())
}
