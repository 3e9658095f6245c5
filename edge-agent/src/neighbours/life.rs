//! Judging by silence, with this machine's own steady clock.

use std::time::Duration;

use authguardian_proto::liveness::Liveness;

use super::{Neighbour, table::Kept};

/// After how long silence a machine is judged. The control plane says how it does
/// it itself; until then its defaults hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Then its agents are suspect.
    pub suspect_after: Duration,
    /// Then they are gone.
    pub gone_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_secs(15),
            gone_after: Duration::from_mins(1),
        }
    }
}

impl Timing {
    /// A machine that was never heard, only told of, is suspect at best.
    pub(super) fn judge(
        self,
        kept: &Kept,
        heard_at: Option<Duration>,
        since_boot: Duration,
    ) -> Neighbour {
        let age = since_boot.saturating_sub(heard_at.unwrap_or(kept.taken_at));
        let liveness = match heard_at {
            _ if age >= self.gone_after => Liveness::Gone,
            Some(_) if age < self.suspect_after => Liveness::Live,
            _ => Liveness::Suspect,
        };
        Neighbour {
            record: kept.record.clone(),
            source: kept.source,
            age,
            liveness,
        }
    }
}
