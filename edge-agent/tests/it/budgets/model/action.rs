//! What can happen.

use control_plane::budgets::Amount;

use super::{
    Bounds, MACHINES,
    state::{Message, State},
};

/// What agents of each machine set aside at a time.
const AMOUNTS: [Amount; MACHINES] = [2, 1];

/// One thing that happens, at a machine of this number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// An agent wants to set this aside.
    Reserve(usize, Amount),
    /// The first reservation comes to this.
    Settle(usize, Amount),
    /// It is not settled in time.
    Release(usize),
    /// What was written comes to disk.
    Sync(usize),
    /// The machine tells what it has; the call is late, or lost.
    Send(usize),
    /// Likewise, and hears at once what it is answered.
    Exchange(usize),
    /// A message that was late arrives.
    Deliver(Message),
    /// All leases end.
    EndLeases,
    /// The process is killed.
    Kill(usize),
    /// The power fails when so many of the lines that were not on disk have come there.
    LosePower(usize, usize),
    /// The disk is lost.
    LoseDisk(usize),
    /// An operator settles what the machine holds, with what it has told.
    Operate(usize),
}

/// All that can happen now, within bounds.
pub(super) fn possible(bounds: &Bounds, state: &State, actions: &mut Vec<Action>) {
    for machine in 0..MACHINES {
        of_agents(bounds, state, machine, actions);
        of_trouble(bounds, state, machine, actions);
        if state.machines[machine].unsynced() > 0 {
            actions.push(Action::Sync(machine));
        }
        actions.extend([Action::Send(machine), Action::Exchange(machine)]);
    }
    actions.extend(state.network.iter().cloned().map(Action::Deliver));
    if state.done.leases < bounds.leases {
        actions.push(Action::EndLeases);
    }
}

fn of_agents(bounds: &Bounds, state: &State, number: usize, actions: &mut Vec<Action>) {
    let machine = &state.machines[number];
    // one that waits for the disk is not there twice
    if state.done.reserves[number] < bounds.reserves && machine.unsynced() < 2 {
        actions.push(Action::Reserve(number, AMOUNTS[number]));
    }
    if let Some((_, amount)) = machine.reservations.first() {
        actions.push(Action::Settle(number, *amount));
        actions.push(Action::Release(number));
        if state.done.overruns < bounds.overruns {
            actions.push(Action::Settle(number, amount + 1));
        }
    }
}

fn of_trouble(bounds: &Bounds, state: &State, number: usize, actions: &mut Vec<Action>) {
    let (machine, done) = (&state.machines[number], &state.done);
    if done.kills < bounds.kills {
        actions.push(Action::Kill(number));
    }
    if done.losses < bounds.losses {
        let lines = 0..=machine.unsynced();
        actions.extend(lines.map(|lines| Action::LosePower(number, lines)));
    }
    if done.disks < bounds.disks {
        actions.push(Action::LoseDisk(number));
    }
    if done.settles < bounds.settles {
        actions.push(Action::Operate(number));
    }
}
