//! The protocol of slices in every order of what can happen: messages that are lost, late, and
//! come again, leases that run out, processes that are killed, power and disks that are lost,
//! operators that settle what is silent. All on the numbers that both daemons run, within
//! bounds: see [`Bounds`].

mod action;
mod state;

use std::time::Duration;

use control_plane::budgets::Amount;
use stateright::{Checker, Model, Property};

use action::Action;
use state::State;

pub(super) const MACHINES: usize = 2;

/// How many steps more than usual.
const MORE: &str = "AUTHGUARDIAN_MODEL_STEPS";

/// So long that nothing is left of a rate when it has ended: states do not differ by it.
const LEASE: Duration = Duration::from_hours(3);

/// How far it is looked: two machines, one of which sets 2 aside at a time, and the other 1.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Of the budget.
    total: Amount,
    /// Messages that are late at the same time; the oldest of more are lost.
    in_flight: usize,
    /// How often each machine sets something aside, besides waiting for it.
    reserves: u8,
    /// How often all leases end.
    leases: u8,
    /// Processes that are killed.
    kills: u8,
    /// Losses of power.
    losses: u8,
    /// Disks that are lost.
    disks: u8,
    /// How often an operator settles what a machine holds.
    settles: u8,
    /// How often an agent spends more than it has set aside.
    overruns: u8,
}

/// Without faults.
const SMALL: Bounds = Bounds {
    total: 2,
    in_flight: 1,
    reserves: 1,
    leases: 0,
    kills: 0,
    losses: 0,
    disks: 0,
    settles: 0,
    overruns: 0,
};

impl Model for Bounds {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.total, LEASE)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        action::possible(self, state, actions);
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        state.take(&action);
        if state.done.losses == self.losses {
            state.sync();
        }
        state.forget_what_is_late(self.in_flight);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = laws();
        properties.push(Property::sometimes(
            "all of it is spent, and told",
            |bounds: &Self, state: &State| {
                state.account().reported == bounds.total && state.account().overdraft == 0
            },
        ));
        if self.kills + self.disks == 0 {
            let name = "what one machine gives back another one spends";
            properties.push(Property::sometimes(name, |_, state: &State| {
                state.has_moved()
            }));
        }
        if self.losses > 0 {
            let name = "a loss of power counts too much";
            properties.push(Property::sometimes(name, |_, state: &State| {
                state.counts_too_much()
            }));
        }
        if self.settles > 0 {
            let name = "a silent slice is settled, and tells of overdraft";
            properties.push(Property::sometimes(name, |_, state: &State| {
                state.account().overdraft > 0 && !state.has_overrun
            }));
        }
        properties
    }
}

/// What holds in every state. That it was counted right after a loss of power, and that
/// movements rest on each other, is looked at as they happen.
fn laws() -> Vec<Property<Bounds>> {
    vec![
        Property::always("nothing contradicts what is known", |_, state: &State| {
            state.violation.is_none()
        }),
        Property::always("no more is out than the total", |_, state: &State| {
            state.control_plane.check().is_ok()
        }),
        Property::always("no spending is forgotten", |_, state: &State| {
            state.machines.iter().all(|machine| machine.check().is_ok())
        }),
        Property::always(
            "no more is spent or set aside than the total",
            |bounds: &Bounds, state: &State| {
                state.is_lawless() || state.truly_used() <= bounds.total
            },
        ),
        Property::always(
            "overdraft is of overruns and of what was settled",
            |_, state: &State| state.is_lawless() || state.account().overdraft == 0,
        ),
    ]
}

#[test]
fn messages_may_be_late_or_lost_or_come_again() {
    // all that there is within these bounds
    let bounds = Bounds {
        in_flight: 2,
        ..SMALL
    };
    check(bounds, 100, 20_000);
    check(Bounds { total: 3, ..bounds }, 14, 30_000);
}

#[test]
fn leases_may_end_and_processes_be_killed() {
    let bounds = Bounds {
        leases: 1,
        kills: 1,
        ..SMALL
    };
    check(bounds, 12, 80_000);
}

#[test]
fn power_may_be_lost_at_every_step() {
    let bounds = Bounds { losses: 1, ..SMALL };
    check(bounds, 13, 30_000);
}

#[test]
fn disks_may_be_lost() {
    let bounds = Bounds {
        leases: 1,
        disks: 1,
        ..SMALL
    };
    check(bounds, 12, 80_000);
}

#[test]
fn operators_may_settle_and_agents_overrun() {
    let bounds = Bounds {
        leases: 1,
        settles: 1,
        overruns: 1,
        ..SMALL
    };
    check(bounds, 13, 60_000);
}

#[test]
fn all_of_it_may_happen_together() {
    let bounds = Bounds {
        leases: 1,
        kills: 1,
        losses: 1,
        disks: 1,
        settles: 1,
        overruns: 1,
        ..SMALL
    };
    check(bounds, 9, 100_000);
}

/// Looks at all states that so many steps come to, of which there are at least so many; the
/// environment asks for more steps.
#[expect(clippy::print_stdout, reason = "says how much was looked at")]
fn check(bounds: Bounds, depth: usize, least: usize) {
    let more = std::env::var(MORE).ok().and_then(|more| more.parse().ok());
    let depth = depth + more.unwrap_or(0_usize);
    // with one thread each state is found by its shortest way
    let checker = bounds.checker().target_max_depth(depth).spawn_bfs().join();
    checker.assert_properties();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states within {depth} steps of {bounds:?}");
    assert!(
        states >= least,
        "no more than {states} states were looked at: {bounds:?}"
    );
}
