//! Telling those that watch which budgets changed.

use std::{collections::BTreeSet, time::Duration};

use authguardian_proto::ids::TaskId;
use tokio::sync::broadcast::{
    self, Receiver, Sender,
    error::{RecvError, TryRecvError},
};

use super::purse::{EVERY, Purse, State};

/// More changes than this that a watcher has not taken are told to it as all.
const MAX_WAITING: usize = 1_024;

/// Tells all that watch.
#[derive(Debug)]
pub(super) struct Telling(Sender<TaskId>);

/// The changes from a moment on.
#[derive(Debug)]
pub struct Changes(Receiver<TaskId>);

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// The budgets of these tasks, or what is held of them here.
    Tasks(BTreeSet<TaskId>),
    /// Any may have.
    All,
}

impl Changes {
    /// Waits for a change; several that are there already are told as one. `None` when the
    /// edge ends.
    pub async fn next(&mut self) -> Option<Changed> {
        let mut tasks = BTreeSet::new();
        match self.0.recv().await {
            Ok(task) => tasks.insert(task),
            Err(RecvError::Lagged(_)) => return Some(Changed::All),
            Err(RecvError::Closed) => return None,
        };
        loop {
            match self.0.try_recv() {
                Ok(task) => tasks.insert(task),
                Err(TryRecvError::Lagged(_)) => return Some(Changed::All),
                Err(TryRecvError::Empty | TryRecvError::Closed) => {
                    return Some(Changed::Tasks(tasks));
                }
            };
        }
    }
}

impl Telling {
    pub(super) fn new() -> Self {
        Self(broadcast::channel(MAX_WAITING).0)
    }

    pub(super) fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// Something that is more than spending: it is told at once.
    pub(super) fn tell(&self, purse: &Purse, state: &mut State, now: Duration) {
        (state.shown.at, state.shown.has_changed) = (now, false);
        // nobody may watch
        let _ = self.0.send(purse.task.clone());
    }

    /// Mere spending, which is told once in a while.
    pub(super) fn flush(&self, purse: &Purse, state: &mut State, now: Duration) {
        if state.shown.has_changed && state.shown.at.saturating_add(EVERY) <= now {
            self.tell(purse, state, now);
        }
    }
}
