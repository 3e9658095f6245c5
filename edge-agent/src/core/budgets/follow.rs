//! Budgets that change: the slices that are told at once, and subscribers.

use std::{pin::Pin, sync::Arc};

use authguardian_proto::{ids::TaskId, reason::Problem};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::BudgetUri;
use crate::{
    core::{Caller, Core},
    slices::{Changed, Changes, Slices},
    upstream::{Change, Follower},
};

/// Has the slices tell the control plane what they have whenever something happened to
/// their budget there.
pub struct BudgetFollower(pub Arc<Slices>);

impl Follower for BudgetFollower {
    fn follow(&self, change: &Change) {
        match change {
            Change::Budget { task_id, .. } => self.0.hurry(task_id),
            Change::Everything => {
                for task in self.0.tasks() {
                    self.0.hurry(&task);
                }
                self.0.tell_all();
            }
            _ => {}
        }
    }
}

/// A subscription to a budget.
pub struct BudgetSubscription {
    task: TaskId,
    /// What was told here, and spent here.
    here: Changes,
    /// What happened at the control plane.
    there: Receiver<Change>,
    /// The end of the subscriber's credential.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl BudgetSubscription {
    /// Waits for a change, or several; `false`: there are no more, since the credential has
    /// ended.
    pub async fn changed(&mut self) -> bool {
        loop {
            let is_concerned = tokio::select! {
                biased;
                () = &mut self.over => return false,
                changed = self.here.next() => match changed {
                    Some(Changed::Tasks(tasks)) => tasks.contains(&self.task),
                    Some(Changed::All) => true,
                    None => return false,
                },
                changed = self.there.recv() => match changed {
                    Ok(Change::Budget { task_id, .. }) => task_id == self.task,
                    Ok(Change::Everything) | Err(RecvError::Lagged(_)) => true,
                    Ok(_) => false,
                    Err(RecvError::Closed) => return false,
                },
            };
            if is_concerned {
                return true;
            }
        }
    }
}

impl Core {
    /// Subscribes a caller to a budget that one of its agents may spend from, from this moment
    /// on; it counts as one call.
    ///
    /// # Errors
    /// `RATE_LIMITED`; `BUDGET_NOT_FOUND` and what else the control plane refuses;
    /// `UNAVAILABLE`.
    pub async fn subscribe_to_budget(
        &self,
        caller: &Caller,
        uri: &BudgetUri,
    ) -> Result<BudgetSubscription, Problem> {
        let action = || "resource.read".to_owned();
        self.admit(caller, None, action).await?;
        let (here, there) = (self.slices.changed(), self.upstream.feed().subscribe());
        let status = self.status_of(caller, &uri.task, None).await;
        self.note_outcome(caller, action, || None, status.as_ref().err());
        status?;
        let (core, caller) = (self.clone(), caller.without_key());
        Ok(BudgetSubscription {
            task: uri.task.clone(),
            here,
            there,
            over: Box::pin(async move { core.credential_ended(&caller).await }),
        })
    }
}
