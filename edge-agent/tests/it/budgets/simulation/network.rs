//! Messages that are lost, come again, and overtake each other.

use std::time::Duration;

use proptest::sample::Index;

use super::{
    super::sides::{Call, Reply, Violation},
    fault::{self, Fault},
    world::World,
};

/// What is on its way.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Call(Call),
    Reply(Reply),
}

impl World {
    /// A machine tells what it has.
    pub(super) fn send(&mut self, number: usize) {
        if self.has(Fault::TellsUnwritten) {
            self.machines[number].pass_over_disk();
        }
        let call = self.machines[number].call(self.now);
        // after a restore all are heard, whatever they have
        if !call.told.is_empty() || self.has_restored {
            self.network.push(Message::Call(call));
        }
    }

    /// Likewise, and it and what it is answered arrive before anything else does.
    pub(super) fn exchange(&mut self, number: usize) -> Result<(), Violation> {
        let others = self.network.len();
        self.send(number);
        while self.network.len() > others {
            let message = self.network.remove(others);
            self.arrive(&message)?;
        }
        Ok(())
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, which: Index) -> Result<(), Violation> {
        if self.network.is_empty() {
            return Ok(());
        }
        let message = self.network.swap_remove(which.index(self.network.len()));
        self.arrive(&message)
    }

    /// All messages arrive, in order.
    pub(super) fn deliver_all(&mut self) -> Result<(), Violation> {
        while !self.network.is_empty() {
            let message = self.network.remove(0);
            self.arrive(&message)?;
            self.check()?;
        }
        Ok(())
    }

    /// A message arrives, and may do so again.
    pub(super) fn repeat(&mut self, which: Index) -> Result<(), Violation> {
        if self.network.is_empty() {
            return Ok(());
        }
        let message = self.network[which.index(self.network.len())].clone();
        self.arrive(&message)
    }

    /// A message is lost.
    pub(super) fn lose(&mut self, which: Index) {
        if !self.network.is_empty() {
            self.network.swap_remove(which.index(self.network.len()));
        }
    }

    fn arrive(&mut self, message: &Message) -> Result<(), Violation> {
        match message {
            Message::Call(call) => self.answer(call),
            Message::Reply(reply) => {
                let mut machines = self.machines.iter_mut();
                let machine = machines.find(|machine| machine.id == reply.call.machine);
                machine.map_or(Ok(()), |machine| machine.hear(reply))
            }
        }
    }

    /// No two calls are taken at the same time: the budget is locked.
    fn answer(&mut self, call: &Call) -> Result<(), Violation> {
        self.now += Duration::from_millis(1);
        let is_repeated = !self.control_plane.would_take(call);
        let reply = if is_repeated && self.has(Fault::CountsTwice) {
            let call = fault::added(call, &self.control_plane);
            self.control_plane.exchange(&call, self.now)?
        } else {
            self.control_plane.exchange(call, self.now)?
        };
        let Some(reply) = reply else {
            return Ok(());
        };
        if self.has(Fault::ShortensLeases) {
            fault::shorten_leases(&mut self.control_plane, &reply, self.now);
        }
        self.network.push(Message::Reply(reply));
        Ok(())
    }
}
