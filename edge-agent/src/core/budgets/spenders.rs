//! Which agents may spend from which budgets, as far as it is known here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::{
    agents,
    ids::{AgentId, TaskId},
};

use crate::slices::Slices;

/// Budgets without a slice here that are remembered.
const MAX_SEEN: usize = 1000;

/// What is known here: of the slices, and of budgets that somebody has looked at.
#[derive(Clone)]
pub(in crate::core) struct Spenders {
    slices: Arc<Slices>,
    seen: Arc<Mutex<HashMap<TaskId, Arc<[String]>>>>,
}

impl Spenders {
    pub(in crate::core) fn new(slices: Arc<Slices>) -> Self {
        Self {
            slices,
            seen: Arc::default(),
        }
    }

    /// Remembers what the control plane has said.
    pub(super) fn take(&self, task: &TaskId, spenders: &[String]) {
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN && !seen.contains_key(task) {
            // any: it is seen again when it is looked at
            let some = seen.keys().next().cloned();
            some.and_then(|some| seen.remove(&some));
        }
        seen.insert(task.clone(), spenders.into());
    }

    /// Whether one of these agents may spend from a budget. Of one that is not known here,
    /// none may.
    pub(in crate::core) fn have_one_of(&self, task: &TaskId, agents: &[AgentId]) -> bool {
        let any = |spenders: &[String]| agents.iter().any(|agent| agents::lets(spenders, agent));
        if let Some(known) = self.slices.known(task) {
            return any(&known.budget.spenders);
        }
        let seen = self.seen().get(task).cloned();
        seen.is_some_and(|spenders| any(&spenders))
    }

    /// The budgets that one of these agents may spend from, by name.
    pub(in crate::core) fn tasks_of(&self, agents: &[AgentId]) -> Vec<String> {
        let mut tasks: Vec<TaskId> = self.seen().keys().cloned().collect();
        tasks.extend(self.slices.tasks());
        tasks.sort_unstable();
        tasks.dedup();
        tasks.retain(|task| self.have_one_of(task, agents));
        tasks.iter().map(ToString::to_string).collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<[String]>>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
