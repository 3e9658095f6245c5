//! Both sides of a budget in memory, on the numbers that both daemons run: the control
//! plane without its database, machines without their files. Simulation and model move them.

mod control_plane;
mod disk;
mod machine;
mod truth;

use std::time::Duration;

use authguardian_proto::ids::MachineId;
use edge_agent::slices::{Answer, Told};
use time::OffsetDateTime;

pub(super) use control_plane::{ControlPlane, moment};
pub(super) use machine::Machine;
pub(super) use truth::Truth;

/// Something that must not be.
pub(super) type Violation = String;

/// What a machine tells, all at once.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) struct Call {
    /// Whose.
    pub(super) machine: MachineId,
    /// Of the machine's journal.
    pub(super) journal: i64,
    /// Which of all its calls, those of earlier processes included.
    pub(super) number: u64,
    /// When it was made, since boot.
    pub(super) at: Duration,
    /// Of each slice, those last that are over.
    pub(super) told: Vec<Told>,
    /// How many of them are over.
    pub(super) past: usize,
    /// All that is remembered is in it, since it was asked for in a hold.
    pub(super) tells_all: Option<OffsetDateTime>,
    /// Since when all that is over is remembered.
    pub(super) remembers_since: Option<Duration>,
    /// The hold since which all was told, and answered.
    pub(super) recalled: Option<OffsetDateTime>,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) struct Reply {
    /// To what.
    pub(super) call: Call,
    /// One for each that was told, in order.
    pub(super) answers: Vec<Answer>,
    /// When.
    pub(super) at: Duration,
    /// The machine is to tell all that it remembers, since this hold.
    pub(super) recall: Option<OffsetDateTime>,
}
