//! Faults of our own making, that the checks have to find.

use std::time::Duration;

use super::{
    super::sides::{Call, ControlPlane, Reply},
    world::World,
};

/// What is wrong in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// After a loss of power only what the control plane was told counts as spent.
    ForgetsSpending,
    /// A lease ends with an answer that says so, also where that is lost.
    ShortensLeases,
    /// What is given back is told before it is on disk.
    TellsUnwritten,
    /// A report that comes again is added to what was reported.
    CountsTwice,
    /// A restored database is spent from as if it had forgotten nothing.
    RestoresUnheld,
}

impl World {
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

/// The call as one that is not known to be a repetition, with its sums as if they were new.
pub(super) fn added(call: &Call, control_plane: &ControlPlane) -> Call {
    let mut call = call.clone();
    call.number = control_plane.taken[&call.machine] + 1;
    for told in &mut call.told {
        let slice = control_plane.slice(call.machine, told.epoch);
        told.report.spent += slice.map_or(0, |held| held.slice.reported);
    }
    call
}

/// What is not leased any more is free to be settled at once.
pub(super) fn shorten_leases(control_plane: &mut ControlPlane, reply: &Reply, now: Duration) {
    let now = super::super::sides::moment(now);
    for answer in reply.answers.iter().filter(|answer| answer.lease.is_zero()) {
        let is_it = |epoch: i64| u64::try_from(epoch) == Ok(answer.epoch);
        let mut held = control_plane.held.iter_mut();
        let held = held.find(|held| held.machine == reply.call.machine && is_it(held.epoch));
        if let Some(held) = held {
            held.leased_until = now;
        }
    }
}
