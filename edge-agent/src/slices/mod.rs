//! Budgets: this machine's slices of them, which agents reserve from and settle against
//! without asking anybody. The control plane sees to it that the slices of all machines stay
//! within a budget; the bound stands there (`budgets/account`).
//!
//! What is done here is in a journal before it is answered, so that a process that is killed
//! forgets nothing. Against a loss of power the journal has marks that are on disk ahead of
//! use: after it, all up to a mark counts as spent. A mark is at most one chunk ahead of what
//! was set aside at once: a sixteenth of what the machine held when it was last given some.
//!
//! What slices that are over came to is remembered for a while, so that a control plane whose
//! database was restored from a backup can be told again.
//!
//! A lease that ended stops reservations by itself; what was spent is told afterwards.

mod changes;
mod exchange;
mod give_back;
mod hearing;
mod holding;
mod journal;
mod known;
mod ledger;
mod memory;
mod part;
mod pen;
mod purse;
mod rate;
mod recall;
mod record;
mod refusal;
mod remembered;
mod replay;
mod requests;
mod reservations;
mod reserve;
mod settle;
mod tend;
mod terms;
#[cfg(test)]
mod tests;
mod wait;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

pub use authguardian_proto::amount::MAX as MAX_AMOUNT;
use authguardian_proto::{
    ids::{ReservationId, TaskId},
    reason::Problem,
};
use tokio::sync::{Mutex, Notify};

pub use changes::{Changed, Changes};
pub use exchange::Round;
pub use holding::{Answer, Holding, Kept, Row, Stop, Told};
pub use journal::OpenError;
pub use known::{Known, OwnSlice};
pub use ledger::{Amount, Ledger, Report, Short};
pub use memory::Past;

use changes::Telling;
use exchange::{Pace, Turn};
use journal::Journal;
use memory::Memory;
use purse::{Purse, State};

use crate::clock::{self, Ambient};

/// Most tasks that are known here.
const MAX_TASKS: usize = 20_000;

/// This machine's slices of all budgets.
#[derive(Debug)]
pub struct Slices {
    ambient: Ambient,
    journal: Journal,
    purses: papaya::HashMap<TaskId, Arc<Purse>>,
    /// One exchange at a time.
    turn: Arc<Mutex<Turn>>,
    pace: std::sync::Mutex<Pace>,
    /// Of the process, as the control plane told it; 0: not yet.
    incarnation: AtomicU64,
    /// An exchange is wanted before it is due.
    wanted: Notify,
    /// There is something to be tended to.
    chores: Notify,
    telling: Telling,
    is_ending: AtomicBool,
    memory: std::sync::Mutex<Memory>,
    /// Slices that the control plane gives as new and that are over here, to be told.
    doubts: std::sync::Mutex<BTreeSet<(TaskId, u64)>>,
    /// All that is known here is to be told once more.
    tells_all: AtomicBool,
}

/// An amount that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// What it is settled by.
    pub reservation: ReservationId,
    /// How much.
    pub granted: Amount,
    /// What is left: here, and what the control plane told that it can still give.
    pub remaining: Amount,
    /// What is counted.
    pub unit: String,
    /// Until it is released by itself.
    pub expires_in: Duration,
}

/// Spending that was noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// How much.
    pub recorded: Amount,
    /// The part of it that was more than there was.
    pub overdraft: Amount,
    /// What is left: here, and what the control plane told that it can still give.
    pub remaining: Amount,
    /// What is counted.
    pub unit: String,
}

impl Slices {
    /// Opens what this machine holds; reads a file.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Path, ambient: Ambient) -> Result<Arc<Self>, OpenError> {
        let boot = clock::boot_id().unwrap_or_else(|error| {
            tracing::warn!(%error, "this boot is not told from others: what was not settled counts as spent");
            ambient.uuid().to_string()
        });
        Self::open_as(dir, ambient, &boot)
    }

    /// Likewise; `boot`: which boot of the machine this is. After another one, what was set
    /// aside and not settled counts as spent, and so does what may have been.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_as(dir: &Path, ambient: Ambient, boot: &str) -> Result<Arc<Self>, OpenError> {
        let opened = Journal::open(dir, &ambient, boot).or_else(|error| {
            journal::set_aside(dir, error)?;
            Journal::open(dir, &ambient, boot)
        });
        let (journal, replayed) = opened?;
        let now = ambient.clock.since_boot();
        let purses = papaya::HashMap::new();
        for (number, task) in replayed.tasks {
            let purse = Purse::replayed(number, task, now);
            purses.pin().insert(purse.task.clone(), Arc::new(purse));
        }
        Ok(Arc::new(Self {
            ambient,
            journal,
            purses,
            turn: Arc::default(),
            pace: std::sync::Mutex::default(),
            incarnation: AtomicU64::new(0),
            wanted: Notify::new(),
            chores: Notify::new(),
            telling: Telling::new(),
            is_ending: AtomicBool::new(false),
            memory: std::sync::Mutex::new(replayed.memory),
            doubts: std::sync::Mutex::default(),
            tells_all: AtomicBool::new(false),
        }))
    }

    /// What is known here of a budget; `None`: nothing was told of it since this process
    /// began.
    pub fn known(&self, task: &TaskId) -> Option<Known> {
        let purse = self.known_purse(task)?;
        Known::read(&purse.state(), self.ambient.clock.since_boot())
    }

    /// The tasks that something is known of here.
    pub fn tasks(&self) -> Vec<TaskId> {
        self.purses.pin().keys().cloned().collect()
    }

    /// Which budgets change from now on, or what is held of them here: mere spending about
    /// once a second.
    pub fn changed(&self) -> Changes {
        self.telling.subscribe()
    }

    /// What is known of a task.
    fn known_purse(&self, task: &TaskId) -> Option<Arc<Purse>> {
        self.purses.pin().get(task).cloned()
    }

    /// What is known of a task, or is to be.
    fn purse(&self, task: &TaskId) -> Result<Arc<Purse>, Problem> {
        let purses = self.purses.pin();
        if let Some(purse) = purses.get(task) {
            return Ok(purse.clone());
        }
        if purses.len() >= MAX_TASKS {
            return Err(refusal::too_many_tasks());
        }
        let made = || Arc::new(Purse::new(task.clone(), self.ambient.clock.since_boot()));
        Ok(purses.get_or_insert_with(task.clone(), made).clone())
    }

    /// Something was set aside, settled or released.
    fn moved(&self, state: &mut State) {
        state.shown.has_changed = true;
        if state.touch() {
            self.wanted.notify_one();
        }
        if !state.is_raising && state.holding.ahead().is_some() {
            state.is_raising = true;
            self.chores.notify_one();
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubts(&self) -> MutexGuard<'_, BTreeSet<(TaskId, u64)>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is set aside any more.
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Acquire)
    }
}
