//! What is so at one time.

use std::time::Duration;

use authguardian_proto::ids::MachineId;
use control_plane::budgets::{Account, Amount, Window};
use uuid::Uuid;

use super::{
    super::sides::{Call, ControlPlane, Machine, Reply, Truth, Violation},
    LEASE, MACHINES,
    action::Action,
};

/// A budget, machines that spend from it, and what is on its way between them.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) struct State {
    now: Duration,
    pub(super) control_plane: ControlPlane,
    pub(super) machines: [Machine; MACHINES],
    pub(super) network: Vec<Message>,
    pub(super) done: Done,
    /// An agent has spent more than it had set aside.
    pub(super) has_overrun: bool,
    /// Something that must not be.
    pub(super) violation: Option<Violation>,
}

/// What is on its way.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(super) enum Message {
    Call(Call),
    Reply(Reply),
}

/// How often something was done, of what is bounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Done {
    pub(super) reserves: [u8; MACHINES],
    pub(super) leases: u8,
    pub(super) kills: u8,
    pub(super) losses: u8,
    pub(super) disks: u8,
    pub(super) settles: u8,
    pub(super) overruns: u8,
}

impl State {
    pub(super) fn new(total: Amount, lease: Duration) -> Self {
        let machine = |number| Machine::new(MachineId::from_uuid(Uuid::from_u128(number)));
        Self {
            now: lease,
            control_plane: ControlPlane::new(total, Window::None, lease),
            machines: [machine(0), machine(1)],
            network: Vec::new(),
            done: Done::default(),
            has_overrun: false,
            violation: None,
        }
    }

    /// One thing happens.
    pub(super) fn take(&mut self, action: &Action) {
        match action {
            Action::Reserve(number, amount) => self.reserve(*number, *amount),
            Action::Settle(number, spent) => self.settle(*number, *spent),
            Action::Release(number) => self.machines[*number].release(0),
            Action::Sync(number) => self.machines[*number].sync(),
            Action::Send(number) => self.send(*number),
            Action::Deliver(Message::Call(call)) => self.answer(call),
            Action::Deliver(Message::Reply(reply)) => self.hear(reply),
            Action::Exchange(number) => self.exchange(*number),
            Action::EndLeases => {
                self.done.leases += 1;
                self.now += LEASE;
            }
            Action::Kill(number) => {
                self.done.kills += 1;
                self.machines[*number].kill();
            }
            Action::LosePower(number, lines) => {
                self.done.losses += 1;
                self.violation = self.machines[*number].lose_power(*lines).err();
            }
            Action::LoseDisk(number) => {
                self.done.disks += 1;
                self.machines[*number].destroy();
            }
            Action::Operate(number) => self.operate(*number),
        }
    }

    fn reserve(&mut self, number: usize, amount: Amount) {
        let machine = &mut self.machines[number];
        let Some(epoch) = machine.reserve(amount, self.now) else {
            return;
        };
        self.done.reserves[number] += 1;
        let held = self.control_plane.slice(machine.id, epoch);
        if held.is_none_or(|held| held.slice.is_closed) {
            self.violation = Some(format!("{amount} were set aside of {held:?}"));
        }
    }

    fn settle(&mut self, number: usize, spent: Amount) {
        let machine = &mut self.machines[number];
        let is_overrun = machine
            .reservations
            .first()
            .is_some_and(|(_, amount)| *amount < spent);
        self.done.overruns += u8::from(is_overrun);
        self.has_overrun |= is_overrun;
        machine.settle(0, spent);
    }

    fn send(&mut self, number: usize) {
        let call = self.machines[number].call(self.now);
        if !call.told.is_empty() {
            self.network.push(Message::Call(call));
        }
    }

    fn exchange(&mut self, number: usize) {
        let call = self.machines[number].call(self.now);
        if call.told.is_empty() {
            return;
        }
        match self.control_plane.exchange(&call, self.now) {
            Ok(reply) => reply.iter().for_each(|reply| self.hear(reply)),
            Err(violation) => self.violation = Some(violation),
        }
    }

    fn answer(&mut self, call: &Call) {
        match self.control_plane.exchange(call, self.now) {
            Ok(reply) => self.network.extend(reply.map(Message::Reply)),
            Err(violation) => self.violation = Some(violation),
        }
    }

    fn hear(&mut self, reply: &Reply) {
        let mut machines = self.machines.iter_mut();
        let machine = machines.find(|machine| machine.id == reply.call.machine);
        self.violation = machine.and_then(|machine| machine.hear(reply).err());
    }

    fn operate(&mut self, number: usize) {
        let machine = &self.machines[number];
        match self.control_plane.settle(machine.id, None, self.now) {
            Ok(false) => return,
            Ok(true) => self.done.settles += 1,
            Err(violation) => self.violation = Some(violation),
        }
        let leased = machine.holding.leased(self.now);
        let held = leased.and_then(|epoch| self.control_plane.slice(machine.id, epoch));
        if held.is_some_and(|held| held.journal == machine.journal && held.slice.is_closed) {
            self.violation = Some(format!("{held:?} was settled, and can be spent from"));
        }
    }

    /// All that was written comes to disk.
    pub(super) fn sync(&mut self) {
        self.machines.iter_mut().for_each(Machine::sync);
    }

    /// Takes out what changes nothing any more when it arrives: calls before one that was
    /// taken, and replies to any but the last call. Calls are then numbered anew, in their
    /// order, so that states that differ in those numbers alone are one.
    pub(super) fn forget_what_is_late(&mut self, in_flight: usize) {
        let (control_plane, machines) = (&self.control_plane, &self.machines);
        self.network.retain(|message| match message {
            Message::Call(call) => control_plane.would_take(call),
            Message::Reply(reply) => machines.iter().any(|machine| {
                machine.id == reply.call.machine && machine.awaits == reply.call.number
            }),
        });
        // the oldest ones are lost
        let too_many = self.network.len().saturating_sub(in_flight);
        self.network.drain(..too_many);
        for number in 0..MACHINES {
            self.number_anew(number);
        }
    }

    fn number_anew(&mut self, number: usize) {
        let machine = &mut self.machines[number];
        let taken = self.control_plane.taken.entry(machine.id).or_default();
        let calls = self.network.iter_mut().map(Message::call_mut);
        let calls = calls.filter(|call| call.machine == machine.id);
        let mut all: Vec<&mut u64> = calls.map(|call| &mut call.number).collect();
        all.extend([&mut machine.calls, &mut machine.awaits, taken]);
        let mut order: Vec<u64> = all.iter().map(|number| **number).collect();
        order.push(0);
        order.sort_unstable();
        order.dedup();
        for number in all {
            let at = order.binary_search(number).unwrap();
            *number = at.try_into().unwrap();
        }
    }

    pub(super) fn account(&self) -> Account {
        self.control_plane.account(self.now)
    }

    /// Whether more may be spent than there is.
    pub(super) fn is_lawless(&self) -> bool {
        self.has_overrun || self.done.settles > 0
    }

    /// What was spent or is set aside, whoever knows of it.
    pub(super) fn truly_used(&self) -> Amount {
        let machines = self.machines.iter();
        let used = machines.flat_map(|machine| {
            let spent = machine.truth.values().map(Truth::spent);
            spent.chain(machine.reservations.iter().map(|(_, amount)| *amount))
        });
        used.sum()
    }

    pub(super) fn counts_too_much(&self) -> bool {
        let mut truths = self
            .machines
            .iter()
            .flat_map(|machine| machine.truth.values());
        truths.any(|truth| truth.settled + truth.over > truth.spent())
    }

    /// One machine has given back, and another one has spent what it could not have else.
    pub(super) fn has_moved(&self) -> bool {
        let mut held = self.control_plane.held.iter();
        let total = self.control_plane.budget.terms.total;
        let granted: Amount = self
            .control_plane
            .held
            .iter()
            .map(|held| held.slice.granted)
            .sum();
        granted > total && held.any(|held| held.slice.returned == 0 && held.slice.reported > 0)
    }
}

impl Message {
    fn call_mut(&mut self) -> &mut Call {
        match self {
            Self::Call(call) | Self::Reply(Reply { call, .. }) => call,
        }
    }
}
