//! A budget, the machines that spend from it, and all that is on its way between them.

use std::time::Duration;

use authguardian_proto::ids::MachineId;
use control_plane::budgets::{State, Window};
use uuid::Uuid;

use super::{
    super::sides::{ControlPlane, Machine, Violation, moment},
    fault::Fault,
    network::Message,
    steps::Step,
};

pub(super) const MACHINES: usize = 3;
pub(super) const TOTAL: u64 = 1_000;
const LEASE: Duration = Duration::from_secs(30);

/// All there is.
pub(super) struct World {
    /// Since boot, everywhere.
    pub(super) now: Duration,
    pub(super) control_plane: ControlPlane,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Vec<Message>,
    pub(super) fault: Option<Fault>,
    /// Since when it is frozen.
    frozen_at: Option<Duration>,
    /// An agent has spent more than it had set aside.
    pub(super) has_overrun: bool,
    /// An operator has settled what a machine held: what that tells later is overdraft.
    pub(super) has_operated: bool,
    /// The control plane as it was, and when.
    backup: Option<(ControlPlane, Duration)>,
    /// It was put back.
    pub(super) has_restored: bool,
}

impl World {
    pub(super) fn new(window: Window, fault: Option<Fault>) -> Self {
        let id = |number: usize| Uuid::from_u128(number.try_into().unwrap());
        let machines = (0..MACHINES).map(|number| Machine::new(MachineId::from_uuid(id(number))));
        Self {
            now: Duration::from_secs(1),
            control_plane: ControlPlane::new(TOTAL, window, LEASE),
            machines: machines.collect(),
            network: Vec::new(),
            fault,
            frozen_at: None,
            has_overrun: false,
            has_operated: false,
            backup: None,
            has_restored: false,
        }
    }

    /// One thing happens.
    pub(super) fn take(&mut self, step: &Step) -> Result<(), Violation> {
        match *step {
            Step::Pass(millis) => self.now += Duration::from_millis(millis),
            Step::Reserve(machine, amount) => self.reserve(machine, amount)?,
            Step::Settle(machine, which, percent) => self.settle(machine, which, percent),
            Step::Release(machine, which) => {
                let machine = &mut self.machines[machine];
                if !machine.reservations.is_empty() {
                    machine.release(which.index(machine.reservations.len()));
                }
            }
            Step::Sync(machine) => self.machines[machine].sync(),
            Step::Send(machine) => self.send(machine),
            Step::Exchange(machine) => self.exchange(machine)?,
            Step::Deliver(which) => self.deliver(which)?,
            Step::Repeat(which) => self.repeat(which)?,
            Step::Lose(which) => self.lose(which),
            Step::Kill(machine) => self.machines[machine].kill(),
            Step::End(machine) => self.end(machine),
            Step::LosePower(machine, lines) => self.lose_power(machine, lines)?,
            Step::Destroy(machine) => self.machines[machine].destroy(),
            Step::Operate(machine, percent) => self.operate(machine, percent)?,
            Step::Freeze(is_frozen) => self.freeze(is_frozen),
            Step::Recall => self.control_plane.budget.recalled_at = Some(moment(self.now)),
            Step::Backup => self.backup = Some((self.control_plane.clone(), self.now)),
            Step::Restore => self.restore(),
            Step::EndHold => self.release()?,
        }
        Ok(())
    }

    /// What is set aside is of an open slice of the present window, and of no budget that was
    /// frozen a lease ago.
    fn reserve(&mut self, number: usize, amount: u64) -> Result<(), Violation> {
        let machine = &mut self.machines[number];
        let Some(epoch) = machine.reserve(amount, self.now) else {
            return Ok(());
        };
        if self.control_plane.budget.is_held() || self.has_restored && self.has_operated {
            // it is spent from to the end of its lease, whatever is known of it
            return Ok(());
        }
        let slice = self.control_plane.slice(machine.id, epoch);
        let window = self.control_plane.window(self.now);
        if slice.is_none_or(|held| held.slice.is_closed || held.window != window) {
            return Err(format!("{amount} were set aside of {slice:?}"));
        }
        if self.frozen_at.is_some_and(|at| at + LEASE <= self.now) {
            return Err(format!("{amount} were set aside of a frozen budget"));
        }
        Ok(())
    }

    fn settle(&mut self, number: usize, which: proptest::sample::Index, percent: u64) {
        let machine = &mut self.machines[number];
        if machine.reservations.is_empty() {
            return;
        }
        let which = which.index(machine.reservations.len());
        let (_, amount) = machine.reservations[which];
        let spent = (amount * percent).div_ceil(100);
        self.has_overrun |= spent > amount;
        machine.settle(which, spent);
    }

    fn end(&mut self, number: usize) {
        let call = self.machines[number].last_call(self.now);
        self.network.push(Message::Call(call));
        self.machines[number].kill();
    }

    fn lose_power(&mut self, number: usize, lines: usize) -> Result<(), Violation> {
        if self.has(Fault::ForgetsSpending) {
            self.machines[number].forget_marks();
        }
        self.machines[number].lose_power(lines)
    }

    /// Nothing of it can be set aside any more.
    fn operate(&mut self, number: usize, percent: Option<u64>) -> Result<(), Violation> {
        let machine = &mut self.machines[number];
        let open = |held: &&control_plane::budgets::Held| {
            held.machine == machine.id && !held.slice.is_closed
        };
        let Some(held) = self
            .control_plane
            .held
            .iter()
            .copied()
            .find(|held| open(&held))
        else {
            return Ok(());
        };
        let had = held.slice.granted.saturating_sub(held.slice.returned);
        let spent = percent.map(|percent| (had * percent / 100).max(held.slice.reported));
        if !self.control_plane.settle(machine.id, spent, self.now)? {
            return Ok(());
        }
        self.has_operated = true;
        let epoch = held.epoch.try_into().unwrap();
        let is_its = held.journal == machine.journal;
        if is_its && machine.holding.leased(self.now) == Some(epoch) {
            return Err(format!("{held:?} was settled, and can be spent from"));
        }
        machine.declare(held.journal, epoch, spent.unwrap_or(0));
        Ok(())
    }

    /// A moment passes between what is lost and what comes after it.
    fn restore(&mut self) {
        let Some((backup, as_of)) = self.backup.clone() else {
            return;
        };
        self.now += Duration::from_millis(1);
        if self.has(Fault::RestoresUnheld) {
            self.control_plane = backup;
        } else {
            self.control_plane.put_back(backup, as_of, self.now);
        }
        let is_frozen = self.control_plane.budget.state == State::Frozen;
        self.frozen_at = is_frozen.then(|| self.frozen_at.unwrap_or(self.now));
        self.has_restored = true;
    }

    pub(super) fn release(&mut self) -> Result<(), Violation> {
        let machines: Vec<MachineId> = self.machines.iter().map(|machine| machine.id).collect();
        self.control_plane.release(&machines, self.now)
    }

    fn freeze(&mut self, is_frozen: bool) {
        let state = if is_frozen {
            State::Frozen
        } else {
            State::Active
        };
        self.control_plane.budget.state = state;
        self.frozen_at = is_frozen.then(|| self.frozen_at.unwrap_or(self.now));
    }
}
