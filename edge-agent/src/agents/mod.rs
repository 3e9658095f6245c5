//! The agents that are registered through this edge: what the registry has said of
//! each, and whether it has shown signs of life since, by this machine's own steady
//! clock. Kept in `agents.json` of the data directory, so that they are known after
//! a restart with the control plane away.

mod agent;
mod file;
mod record;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::{AgentId, MachineId},
    liveness::Liveness,
    registry::v1::OwnAgent,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use agent::{Agent, NotUnderstood};
pub use file::FileError;
pub use table::Status;

use crate::clock::Clock;
use record::Kept;
use table::Table;

const FILE: &str = "agents.json";

/// An agent of this machine, as it is now.
#[derive(Debug, Clone)]
pub struct Own {
    /// What the registry has said of it.
    pub agent: Arc<Agent>,
    /// Whether it has shown signs of life.
    pub liveness: Liveness,
    /// How long ago the last one was.
    pub age: Duration,
}

/// The agents that are registered through this edge.
#[derive(Debug)]
pub struct Agents {
    machine: MachineId,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    version: watch::Sender<u64>,
}

/// What was known when a lease was begun.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

impl Agents {
    /// Those of this machine, as they were kept in the data directory: each has
    /// one time to live to be heard again.
    ///
    /// # Errors
    /// [`FileError`] where the file is there and cannot be used.
    pub fn open(
        data_dir: &Path,
        machine: MachineId,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, FileError> {
        let path = data_dir.join(FILE);
        let mut lines = file::read(&path)?;
        // of another identity that the directory was used with before
        lines.retain(|line| line.agent.machine_id == machine);
        let table = Table::restored(lines, clock.since_boot());
        Ok(Arc::new(Self {
            machine,
            path,
            clock,
            table: Mutex::new(table),
            version: watch::Sender::new(0),
        }))
    }

    /// Takes what the registry says of an agent. A registration that was not known
    /// is a sign of life.
    ///
    /// # Errors
    /// [`NotUnderstood`]; nothing is changed.
    pub fn take(&self, own: OwnAgent) -> Result<Arc<Agent>, NotUnderstood> {
        let (agent, record) = self.read(own)?;
        let (id, read) = (agent.agent_id.clone(), Arc::new(agent.clone()));
        let now = self.now();
        self.change(|table| {
            table.take(agent, record, now);
            let kept = table.get(&id, now).map_or(read, |own| own.agent);
            (Ok(kept), true)
        })
    }

    /// To be asked for before [`Agents::keep_only`] is learned.
    pub fn mark(&self) -> Mark {
        Mark(self.table().taken())
    }

    /// Takes all that the registry has of this machine. What was known at the mark and
    /// is not among them is no more; what came since stays.
    ///
    /// # Errors
    /// [`NotUnderstood`] when one could not be read; the others are taken.
    pub fn keep_only(&self, mark: Mark, agents: Vec<OwnAgent>) -> Result<(), NotUnderstood> {
        let count = agents.len();
        let read: Vec<_> = agents.into_iter().flat_map(|own| self.read(own)).collect();
        let is_whole = read.len() == count;
        let now = self.now();
        self.change(|table| {
            if is_whole {
                let there: HashMap<_, _> = read
                    .iter()
                    .map(|(agent, _)| (agent.agent_id.clone(), agent.epoch))
                    .collect();
                table.keep_only(mark.0, |agent| {
                    let epoch = there.get(&agent.agent_id);
                    epoch.is_some_and(|epoch| *epoch >= agent.epoch)
                });
            }
            for (agent, record) in read {
                table.take(agent, record, now);
            }
            if is_whole {
                (Ok(()), true)
            } else {
                (Err(NotUnderstood), true)
            }
        })
    }

    /// A registration, and all earlier ones of the agent, are no more.
    pub fn end(&self, agent: &AgentId, epoch: u64) {
        self.change(|table| ((), table.end(agent, epoch)));
    }

    /// A sign of life of an agent.
    pub fn heard(&self, agent: &AgentId) {
        let now = self.now();
        self.change(|table| ((), table.heard(agent, now)));
    }

    /// Something is another about an agent: its signed record has to be asked
    /// for again.
    pub fn want_record(&self, agent: &AgentId) {
        self.change(|table| ((), table.want_record(agent)));
    }

    /// What is to be told to the registry of each.
    pub fn statuses(&self) -> Vec<Status> {
        let now = self.now();
        self.change(|table| table.judge(now))
    }

    /// How long from now until one will be judged otherwise, if nothing is heard.
    pub fn next_change_in(&self) -> Option<Duration> {
        let now = self.now();
        let next = self.table().next_change(now);
        next.map(|at| at.saturating_sub(now))
    }

    /// One of them.
    pub fn get(&self, agent: &AgentId) -> Option<Own> {
        let now = self.now();
        self.table().get(agent, now)
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Own> {
        let now = self.now();
        self.table().all(now)
    }

    /// The signed records of those that this edge vouches for, for other edges.
    pub fn records(&self) -> Vec<Arc<str>> {
        let now = self.now();
        self.table().records(now)
    }

    /// A number that changes whenever any of the above may be another, signs of
    /// life apart that change no judgement.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Writes the file after each change, until `stop`, and then once more.
    pub async fn keep_saved(self: Arc<Self>, stop: CancellationToken) {
        let mut versions = self.versions();
        versions.mark_unchanged();
        loop {
            let changed = stop.run_until_cancelled(versions.changed()).await;
            let agents = self.clone();
            let saving = tokio::task::spawn_blocking(move || agents.save());
            if let Ok(Err(error)) = saving.await {
                tracing::error!(%error, "the agents of this machine are not on disk");
            }
            if changed.is_none() {
                return;
            }
        }
    }

    fn save(&self) -> Result<(), FileError> {
        let lines = self.table().lines();
        file::write(&self.path, lines)
    }

    fn read(&self, own: OwnAgent) -> Result<(Agent, Option<Kept>), NotUnderstood> {
        let (agent, record) = Agent::read(own)?;
        if agent.machine_id != self.machine {
            return Err(NotUnderstood);
        }
        let now = self.now();
        Ok((agent, record.map(|text| Kept::new(text, now))))
    }

    /// Changes the table and tells of it where that is news.
    fn change<T>(&self, work: impl FnOnce(&mut Table) -> (T, bool)) -> T {
        let (outcome, is_news) = work(&mut self.table());
        if is_news {
            self.version.send_modify(|version| *version += 1);
        }
        outcome
    }

    fn now(&self) -> Duration {
        self.clock.since_boot()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
