//! How a world comes to rest, and what holds then.

use std::time::Duration;

use control_plane::budgets::{Amount, Held};

use super::{
    super::sides::{Violation, moment},
    steps::Step,
    world::{MACHINES, World},
};

/// Until every machine has told all, and heard what came of it.
const ROUNDS: usize = 6;

impl World {
    /// Nobody sets anything aside any more, and all messages arrive.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Violation> {
        self.take(&Step::Freeze(false))?;
        // not within the last moments of a window
        if self.now.as_secs() % 60 > 50 {
            self.now += Duration::from_secs(11);
        }
        for machine in &mut self.machines {
            machine.holding.wait(0);
            while !machine.reservations.is_empty() {
                machine.release(0);
            }
        }
        self.deliver_all()?;
        for _ in 0..ROUNDS {
            self.exchange_all(0)?;
            self.now += Duration::from_millis(100);
        }
        self.end_hold()
    }

    /// All have told; a machine that has lost its disk since the backup cannot, and an operator
    /// decides.
    fn end_hold(&mut self) -> Result<(), Violation> {
        self.release()?;
        if self.control_plane.budget.is_held() {
            let as_of = self.control_plane.budget.hold.map(|hold| hold.as_of);
            let mut machines = self.machines.iter();
            let remembers = |since: Duration| Some(moment(since)) <= as_of;
            if machines.all(|machine| machine.since.is_some_and(remembers)) {
                return Err("all have told, and the hold goes on".to_owned());
            }
            self.has_operated = true;
            self.control_plane.thaw(self.now)?;
        }
        self.check()?;
        self.exchange_all(0)
    }

    /// The control plane knows what was spent: exactly, but for what losses of power and
    /// operators have counted too much, and for what was lost with a disk, which is still
    /// out.
    pub(super) fn check_rest(&mut self) -> Result<(), Violation> {
        for machine in &self.machines {
            for ((journal, epoch), truth) in &machine.truth {
                let held = self.control_plane.slice(machine.id, *epoch);
                let Some(held) = held.filter(|held| held.journal == *journal) else {
                    // a slice of which nothing was spent, or the word of an operator
                    let is_nothing = truth.spent() == 0 || self.has_operated;
                    if self.has_restored && is_nothing {
                        continue;
                    }
                    return Err(format!("{truth:?} is of no slice"));
                };
                let reported = held.slice.reported;
                let known = truth.settled + truth.over;
                let is_known = if held.journal == machine.journal && self.has_restored {
                    // what an operator had said may be forgotten
                    reported >= known
                } else if held.journal == machine.journal {
                    reported == known.max(truth.declared)
                } else {
                    self.has_operated
                        || self.has_overrun
                        || truth.spent() <= reported + held.slice.outstanding()
                };
                if !is_known {
                    return Err(format!("{truth:?} is counted as {held:?}"));
                }
            }
            let mut over = self.control_plane.held.iter().filter(|held| {
                held.machine == machine.id
                    && held.journal == machine.journal
                    && !held.slice.is_closed
                    && !held.is_restored
            });
            let window = self.control_plane.window(self.now);
            if let Some(held) = over.find(|held| held.window != window) {
                return Err(format!("{held:?} is over, and still out"));
            }
        }
        Ok(())
    }

    /// All that is left can be set aside by one machine.
    pub(super) fn spend_the_rest(&mut self) -> Result<(), Violation> {
        let account = self.control_plane.account(self.now);
        let all = account.total.saturating_sub(account.reported + self.lost());
        if account.overdraft > 0 || all == 0 {
            return Ok(());
        }
        for _ in 0..8 {
            self.take(&Step::Reserve(0, all))?;
            self.check()?;
            if !self.machines[0].reservations.is_empty() {
                return Ok(());
            }
            self.machines[0].sync();
            self.exchange(0)?;
            self.exchange_all(1)?;
            self.exchange_all(1)?;
            self.now += Duration::from_millis(20);
        }
        let held = &self.control_plane.held;
        Err(format!(
            "{all} are left and cannot be set aside: {account:?} {held:?}"
        ))
    }

    /// What lost disks held in the present window, and slices that nobody knows of any more.
    fn lost(&self) -> Amount {
        let window = self.control_plane.window(self.now);
        let is_lost = |held: &&Held| {
            let mut machines = self.machines.iter();
            let is_its = machines
                .any(|machine| machine.id == held.machine && machine.journal == held.journal);
            // of what was restored the machine may never have heard
            held.window == window && (held.is_restored || !is_its)
        };
        let lost = self.control_plane.held.iter().filter(is_lost);
        lost.map(|held| held.slice.outstanding()).sum()
    }

    /// Machines from this one on tell what they have, and hear what comes of it.
    fn exchange_all(&mut self, from: usize) -> Result<(), Violation> {
        for machine in from..MACHINES {
            self.exchange(machine)?;
            self.check()?;
        }
        Ok(())
    }
}
