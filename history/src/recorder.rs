//! Where clients of a test write down what they ask and what they are told.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::operation::{Call, History, Operation, Outcome};

/// Shared by all clients of one board.
#[derive(Clone)]
pub struct Recorder {
    operations: Arc<Mutex<Vec<Operation>>>,
    now: Arc<dyn Fn() -> Duration + Send + Sync>,
}

/// A call that is on its way. One that is dropped stays unknown.
#[derive(Debug, Clone)]
#[must_use = "a call whose outcome is not noted is of unknown outcome"]
pub struct Pending {
    number: usize,
}

impl Recorder {
    /// An empty one. `now` is a clock that never goes back, the same for all
    /// clients.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self {
            operations: Arc::default(),
            now: Arc::new(now),
        }
    }

    /// The time on its clock.
    pub fn now(&self) -> Duration {
        (self.now)()
    }

    /// To be called right before a call is sent for the first time.
    pub fn begin(&self, client: &str, agent: &str, call: Call) -> Pending {
        let mut operations = self.operations();
        let number = operations.len();
        operations.push(Operation {
            number,
            client: client.to_owned(),
            agent: agent.to_owned(),
            call,
            // under the lock, so that numbers are in the order of beginning
            start: self.now(),
            end: None,
            outcome: Outcome::Unknown,
            repeats: Vec::new(),
        });
        Pending { number }
    }

    /// To be called right after an answer to it, or to a repeat of it under the
    /// same request id, has come. The first definite one is its outcome; later
    /// ones have to say the same.
    pub fn end(&self, pending: &Pending, outcome: Outcome) {
        let now = self.now();
        if outcome == Outcome::Unknown {
            return;
        }
        let mut operations = self.operations();
        let Some(operation) = operations.get_mut(pending.number) else {
            return;
        };
        if operation.outcome == Outcome::Unknown {
            operation.outcome = outcome;
            operation.end = Some(now);
        } else {
            operation.repeats.push(outcome);
        }
    }

    /// What has been written down so far.
    pub fn history(&self) -> History {
        History {
            operations: self.operations().clone(),
            ..History::default()
        }
    }

    /// How many calls of how many have a definite outcome.
    pub fn counts(&self) -> (usize, usize) {
        let operations = self.operations();
        let known = operations
            .iter()
            .filter(|operation| operation.end.is_some());
        (known.count(), operations.len())
    }

    fn operations(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
