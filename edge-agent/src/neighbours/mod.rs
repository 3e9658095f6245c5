//! What is known of agents elsewhere without asking the control plane: records
//! that it has signed, brought by other edges, and when their machines were
//! last heard by this machine's own steady clock. Nothing is kept that does not
//! verify, and of everything only so much.

mod life;
mod query;
mod table;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    agent_record::{self, AgentRecord},
    grant_token::KeySet,
    ids::{AgentId, MachineId},
    liveness::Liveness,
    reason::Reason,
};

use tokio::sync::watch;

pub use life::Timing;
pub use query::Query;
pub use told::Told;

use crate::clock::Clock;
use table::Table;

/// Most machines that something is known of.
pub const MAX_MACHINES: usize = 4096;
/// Most records of one machine.
pub const MAX_RECORDS_OF_MACHINE: usize = 1024;
/// Most bytes of all records.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Most registrations that are remembered as ended.
const MAX_ENDED: usize = 65_536;

/// Who brought what is known of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Edges that tell each other, also of third ones.
    Gossip,
    /// The machine itself, found by an announcement on the network.
    Mdns,
}

impl Source {
    /// The stable name, as in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Mdns => "mdns",
        }
    }
}

/// An agent of another machine.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// What the registry has said of it.
    pub record: Arc<AgentRecord>,
    /// Who brought that.
    pub source: Source,
    /// How long ago its machine was last heard, or its record taken where the machine
    /// never was.
    pub age: Duration,
    /// Judged by that.
    pub liveness: Liveness,
}

/// A record that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Wrong form, signature, trust domain, or not valid yet.
    #[error("it is no record that the control plane of this trust domain has signed")]
    Forged,
    /// The keys may have to be read again.
    #[error("it is signed with a key that is not known here")]
    UnknownKey,
    /// It has ended by its own word.
    #[error("its time is over")]
    Expired,
    /// Brought as that of one machine, it names another.
    #[error("it is of another machine")]
    OtherMachine,
    /// Of this machine, which knows its agents itself.
    #[error("it is of this machine")]
    Own,
    /// A later registration of the agent is known.
    #[error("a later registration of the agent is known")]
    Superseded,
    /// The registry has said that it is no more.
    #[error("the registration has ended")]
    Ended,
    /// Bounded.
    #[error("there is no room for more")]
    Full,
}

/// What is known of agents elsewhere.
#[derive(Debug)]
pub struct Neighbours {
    own: MachineId,
    issuer: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    told: watch::Sender<Arc<Told>>,
}

#[derive(Debug)]
struct State {
    table: Table,
    timing: Timing,
}

impl Neighbours {
    /// Of this machine's trust domain; nothing is known yet.
    pub fn new(own: MachineId, trust_domain: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            own,
            issuer: format!("https://{trust_domain}"),
            clock,
            state: Mutex::new(State {
                table: Table::default(),
                timing: Timing::default(),
            }),
            told: watch::Sender::default(),
        })
    }

    /// Tells others from now on of these signed records: those of the agents of
    /// this machine that are there.
    pub fn tell(&self, records: Vec<Arc<str>>) {
        let told = Told::new(records);
        self.told.send_if_modified(|before| {
            let is_news = before.version != told.version;
            *before = Arc::new(told);
            is_news
        });
    }

    /// What others are told, as it changes.
    pub fn told(&self) -> watch::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// After how long silence machines are judged, as the control plane does it.
    pub fn set_timing(&self, timing: Timing) {
        self.state().timing = timing;
    }

    /// How machines are judged.
    pub fn timing(&self) -> Timing {
        self.state().timing
    }

    /// Takes a record of one of this machine's agents; `now` is the control plane's
    /// time as far as known, in seconds since 1970. It says nothing about
    /// whether the machine is there.
    ///
    /// # Errors
    /// [`Refused`]; what was known stays as it was.
    pub fn take(
        &self,
        machine: MachineId,
        text: &str,
        source: Source,
        keys: &KeySet,
        now: i64,
    ) -> Result<Arc<AgentRecord>, Refused> {
        let record = Arc::new(self.check(machine, text, keys, now)?);
        self.keep(record.clone(), text.len(), source)?;
        Ok(record)
    }

    /// Keeps a record that was checked and had so many bytes.
    ///
    /// # Errors
    /// `Superseded`, `Ended` and `Full`.
    pub fn keep(
        &self,
        record: Arc<AgentRecord>,
        bytes: usize,
        source: Source,
    ) -> Result<(), Refused> {
        let taken_at = self.clock.since_boot();
        self.state().table.take(table::Kept {
            record,
            bytes,
            source,
            taken_at,
        })
    }

    /// Whether a record could be taken, apart from what is known already.
    ///
    /// # Errors
    /// As [`Neighbours::take`], without `Superseded`, `Ended` and `Full`.
    pub fn check(
        &self,
        machine: MachineId,
        text: &str,
        keys: &KeySet,
        now: i64,
    ) -> Result<AgentRecord, Refused> {
        if machine == self.own {
            return Err(Refused::Own);
        }
        let record = agent_record::verify(text, keys, now).map_err(|reason| match reason {
            Reason::TokenForeignKey => Refused::UnknownKey,
            Reason::GrantExpired => Refused::Expired,
            _ => Refused::Forged,
        })?;
        if record.iss != self.issuer {
            return Err(Refused::Forged);
        }
        if record.machine != machine {
            return Err(Refused::OtherMachine);
        }
        Ok(record)
    }

    /// The machine has shown, by proof that the caller has checked, that it was
    /// there just now.
    pub fn heard(&self, machine: MachineId, source: Source) {
        if machine != self.own {
            let now = self.clock.since_boot();
            self.state().table.heard(machine, source, now);
        }
    }

    /// Of a machine's agents only these are there still, as it says itself.
    pub fn keep_only(&self, machine: MachineId, agents: &HashSet<AgentId>) {
        self.state().table.keep_only(machine, agents);
    }

    /// The registry has ended this registration, and all earlier ones of the
    /// agent; none of them is taken again.
    pub fn drop_agent(&self, agent: &AgentId, epoch: u64) {
        self.state().table.end(agent, epoch);
    }

    /// The machine may take part no more.
    pub fn drop_machine(&self, machine: MachineId) {
        self.state().table.drop_machine(machine);
    }

    /// Who fits, the best first: the live before the suspect, the trusted
    /// before the less trusted, then by name. `now` as in [`Neighbours::take`].
    pub fn find(&self, query: &Query, now: i64) -> Vec<Neighbour> {
        let since_boot = self.clock.since_boot();
        let state = self.state();
        let mut found: Vec<_> = state
            .table
            .records(query.machine)
            .filter(|(kept, _)| now < kept.record.exp && query.fits(&kept.record))
            .map(|(kept, heard_at)| state.timing.judge(kept, heard_at, since_boot))
            .filter(|neighbour| neighbour.liveness <= query.worst_liveness)
            .collect();
        drop(state);
        found.sort_by(|a, b| {
            (a.liveness, b.record.trust, &a.record.sub).cmp(&(
                b.liveness,
                a.record.trust,
                &b.record.sub,
            ))
        });
        found
    }

    /// Whether anything is known from this source.
    pub fn has_any(&self, source: Source) -> bool {
        self.state()
            .table
            .records(None)
            .any(|(kept, _)| kept.source == source)
    }

    /// Forgets records that have ended, and machines that nothing is known of.
    pub fn forget_ended(&self, now: i64) {
        let since_boot = self.clock.since_boot();
        let mut state = self.state();
        let gone_after = state.timing.gone_after;
        state.table.forget_ended(now, since_boot, gone_after);
    }

    /// How many machines and records are kept.
    pub fn kept(&self) -> (usize, usize) {
        self.state().table.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
