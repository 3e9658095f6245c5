//! As whom the replica writes.
//!
//! A machine's writes are told apart by its incarnation and a counter. Which incarnation
//! a replica may go on with is known only after the control plane has been asked, since the
//! disk may be an old copy that was put back. What is written before that is written as
//! somebody new: a *provisional* incarnation, drawn at random from the upper half of all.

use authguardian_proto::{
    crdt::{Actor, Dot},
    ids::MachineId,
};

use crate::clock::Ambient;

/// Provisional incarnations begin here; those that the control plane gives are below.
const PROVISIONAL: u32 = 1 << 31;

/// One life of this machine's replica.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Life {
    #[prost(uint32, tag = "1")]
    pub(super) incarnation: u32,
    /// Writes up to this counter are not outgoing: the control plane has them.
    #[prost(uint64, tag = "2")]
    pub(super) handed: u64,
    /// The highest counter.
    #[prost(uint64, tag = "3")]
    pub(super) written: u64,
}

/// The lives that the replica remembers: those with outgoing writes, and the last that was
/// confirmed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lives {
    pub(super) machine: MachineId,
    /// 0: none was.
    pub(super) confirmed: u32,
    pub(super) all: Vec<Life>,
    /// As which it writes; `None`: neither confirmed since the start, nor written yet.
    pub(super) current: Option<u32>,
}

impl Lives {
    pub(super) fn get(&self, incarnation: u32) -> Option<&Life> {
        self.all.iter().find(|life| life.incarnation == incarnation)
    }

    /// A life, which begins now if it has not.
    pub(super) fn of(&mut self, incarnation: u32) -> &mut Life {
        let at = self
            .all
            .iter()
            .position(|life| life.incarnation == incarnation);
        let at = at.unwrap_or_else(|| {
            self.all.push(Life {
                incarnation,
                ..Life::default()
            });
            self.all.len() - 1
        });
        &mut self.all[at]
    }

    /// The dot of a new write.
    pub(super) fn next(&mut self, ambient: &Ambient) -> Dot {
        let incarnation = match self.current {
            Some(incarnation) => incarnation,
            None => self.provisional(ambient),
        };
        self.current = Some(incarnation);
        let life = self.of(incarnation);
        life.written = life.written.saturating_add(1);
        let counter = life.written;
        Dot {
            actor: Actor {
                machine: self.machine,
                incarnation,
            },
            counter,
        }
    }

    /// Whether a write waits to be handed over. Those of a life are handed over in the
    /// order of their counters, so two numbers tell.
    pub(super) fn is_outgoing(&self, dot: Dot) -> bool {
        let life = self.get(dot.actor.incarnation);
        dot.actor.machine == self.machine
            && life.is_some_and(|life| life.handed < dot.counter && dot.counter <= life.written)
    }

    /// Forgets lives that nothing is to be known of any more.
    pub(super) fn tidy(&mut self) {
        let (confirmed, current) = (self.confirmed, self.current);
        self.all.retain(|life| {
            life.handed < life.written
                || life.incarnation == confirmed
                || Some(life.incarnation) == current
        });
    }

    /// One that was never used: with 2³¹ to draw from, none that a lost disk has used.
    fn provisional(&self, ambient: &Ambient) -> u32 {
        loop {
            let drawn = u32::from_le_bytes(ambient.entropy.bytes()) | PROVISIONAL;
            if self.get(drawn).is_none() {
                return drawn;
            }
        }
    }
}
