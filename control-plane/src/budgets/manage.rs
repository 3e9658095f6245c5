//! What operators do with budgets.

use std::collections::BTreeSet;

use authguardian_proto::{
    ids::{MachineId, TaskId},
    reason::{Problem, Reason},
};
use serde::Serialize;

use super::{
    Budgets,
    account::Amount,
    budget::{Budget, State, Terms, check_amount, not_found},
    children, hold,
    locked::{self, Locked},
    movement::Kind,
    news::Act,
    operate::{self, Settled},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::{Begun, OpenRequest},
    error::Result,
    events::{self, Stream},
};

/// A budget that is to be made.
#[derive(Debug, Clone, Serialize)]
pub struct NewBudget {
    /// For what.
    pub task: TaskId,
    /// What is said of it.
    pub terms: Terms,
}

impl Budgets {
    /// Makes a budget; what it has is taken from its parent. Where that is held, it may have
    /// been made before, and is held too: machines tell once more what they spent of it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with the field; `REVISION_CONFLICT` where there is one of this
    /// task; `BUDGET_NOT_FOUND`, `BUDGET_FROZEN` and `BUDGET_EXHAUSTED` of the parent;
    /// `REQUEST_ID_REUSED`.
    pub async fn create(&self, context: Context, new: NewBudget) -> Result<Budget> {
        let terms = new.terms.clone().checked()?;
        let mut request = match self.begin(&context, "budgets.create", &new).await? {
            Begun::Told(budget) => return Ok(budget),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let mut hold = None;
        // before what is taken from it is there, so that nobody can hold that and wait for it
        if let Some(parent) = &terms.parent {
            let tasks = BTreeSet::from([parent.clone()]);
            let mut locked = Locked::lock(connection, &tasks, &[], self.settings.lease).await?;
            let plan = locked.get_mut(parent);
            let plan = plan.ok_or_else(|| no_parent(parent))?;
            plan.give_child(&new.task, terms.total, Kind::ChildCreated)?;
            hold = plan.hold_of_child();
            locked.write(connection).await?;
        }
        if store::insert(connection, &new.task, &terms)
            .await?
            .is_none()
        {
            let detail = format!("there is a budget `{}` already", new.task);
            return Err(Problem::new(Reason::RevisionConflict, detail)
                .at("budget.task_id")
                .into());
        }
        let tasks = BTreeSet::from([new.task.clone()]);
        let mut locked = Locked::lock(connection, &tasks, &[], self.settings.lease).await?;
        let plan = locked.get_mut(&new.task);
        let plan = plan.ok_or_else(|| not_found(&new.task))?;
        plan.create();
        plan.budget.hold = hold;
        let budget = plan.budget.clone();
        self.finish(request, locked, context, Act::Create, &new.task, &budget)
            .await?;
        Ok(budget)
    }

    /// Raises the total, of the present window and those after it; overdraft is covered
    /// first.
    ///
    /// # Errors
    /// As [`Budgets::create`].
    pub async fn top_up(&self, context: Context, task: TaskId, by: Amount) -> Result<Budget> {
        check_amount("amount", by)?;
        let mut request = match self.begin(&context, "budgets.top_up", &(&task, by)).await? {
            Begun::Told(budget) => return Ok(budget),
            Begun::New(request) => request,
        };
        let mut locked = self.lock_with_parent(request.connection(), &task).await?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        plan.budget.check_open()?;
        check_amount("amount", plan.budget.terms.total.saturating_add(by))?;
        if let Some(parent) = plan.budget.terms.parent.clone() {
            let plan = locked.get_mut(&parent).ok_or_else(|| no_parent(&parent))?;
            plan.give_child(&task, by, Kind::ChildToppedUp)?;
        }
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        plan.top_up(by);
        let budget = plan.budget.clone();
        self.finish(request, locked, context, Act::TopUp, &task, &budget)
            .await?;
        Ok(budget)
    }

    /// Asks machines to give back what lies idle with them; how much that is.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`; `REQUEST_ID_REUSED`.
    pub async fn rebalance(&self, context: Context, task: TaskId) -> Result<Amount> {
        let mut request = match self.begin(&context, "budgets.rebalance", &task).await? {
            Begun::Told(asked) => return Ok(asked),
            Begun::New(request) => request,
        };
        let mut locked = self.lock_with_parent(request.connection(), &task).await?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        let asked = plan.recall();
        self.finish(request, locked, context, Act::Rebalance, &task, &asked)
            .await?;
        Ok(asked)
    }

    /// Ends the slice of a machine whose lease has ended: so much counts as spent (`None`:
    /// what it has told), and the rest is free again. Of a budget that is held it is the
    /// operator's word for the machine, also where it has no slice that is known.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`; `RESERVATION_NOT_FOUND` where it has no slice;
    /// `REVISION_CONFLICT` while it may be spent from; `INVALID_ARGUMENT`;
    /// `REQUEST_ID_REUSED`.
    pub async fn settle(
        &self,
        context: Context,
        task: TaskId,
        machine: MachineId,
        spent: Option<Amount>,
    ) -> Result<Settled> {
        let key = (&task, machine, spent);
        let mut request = match self.begin(&context, "budgets.settle", &key).await? {
            Begun::Told(settled) => return Ok(settled),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let mut locked = self.lock_for(connection, &task, Some(machine)).await?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        if let Some(hold) = plan.budget.hold.filter(|hold| hold.is_open) {
            let awaited = store::awaited(connection, &task).await?;
            if awaited.iter().any(|awaited| awaited.machine == machine) {
                store::note_word(connection, &task, machine, hold.since).await?;
            } else if !plan.has_open(machine) {
                return Err(operate::not_held(machine));
            }
        }
        let settled = plan.settle(machine, spent)?;
        children::count(&mut locked, &task)?;
        self.finish(
            request,
            locked,
            context,
            Act::Settle(machine),
            &task,
            &settled,
        )
        .await?;
        Ok(settled)
    }

    /// Stops reservations, or lets them go on: then also a hold is ended, at the operator's
    /// word.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`; `BUDGET_FROZEN` of a closed one; `REQUEST_ID_REUSED`.
    pub async fn freeze(&self, context: Context, task: TaskId, frozen: bool) -> Result<Budget> {
        let mut request = match self
            .begin(&context, "budgets.freeze", &(&task, frozen))
            .await?
        {
            Begun::Told(budget) => return Ok(budget),
            Begun::New(request) => request,
        };
        let mut locked = self.lock_with_parent(request.connection(), &task).await?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        plan.budget.check_open()?;
        let (state, act) = if frozen {
            (State::Frozen, Act::Freeze)
        } else {
            (State::Active, Act::Thaw)
        };
        plan.budget.state = state;
        if !frozen {
            hold::release(&mut locked, &task)?;
        }
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        let budget = plan.budget.clone();
        self.finish(request, locked, context, act, &task, &budget)
            .await?;
        Ok(budget)
    }

    /// Ends a budget. Its parent counts what was spent of it, and has the rest again, once
    /// no machine holds anything of it.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`; `REVISION_CONFLICT` while a budget below it is open;
    /// `REQUEST_ID_REUSED`.
    pub async fn close(&self, context: Context, task: TaskId) -> Result<Budget> {
        let mut request = match self.begin(&context, "budgets.close", &task).await? {
            Begun::Told(budget) => return Ok(budget),
            Begun::New(request) => request,
        };
        let connection = request.connection();
        let mut locked = self.lock_with_parent(connection, &task).await?;
        if let Some(child) = store::open_child(connection, &task).await? {
            let detail = format!("budget `{child}` is taken from it; close that first");
            return Err(Problem::new(Reason::RevisionConflict, detail)
                .at("task_id")
                .into());
        }
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        plan.close();
        children::count(&mut locked, &task)?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        let budget = plan.budget.clone();
        self.finish(request, locked, context, Act::Close, &task, &budget)
            .await?;
        Ok(budget)
    }

    async fn begin<T: serde::de::DeserializeOwned>(
        &self,
        context: &Context,
        method: &'static str,
        asked: &(impl Serialize + Sync),
    ) -> Result<Begun<T>> {
        let key = context.request_key(&self.ambient, method, asked)?;
        self.db.begin_request(key, self.ambient.clock.now()).await
    }

    /// A budget, its parent, and the slices of it that are overdrawn.
    pub(super) async fn lock_with_parent(
        &self,
        connection: &mut sqlx::PgConnection,
        task: &TaskId,
    ) -> Result<Locked> {
        self.lock_for(connection, task, None).await
    }

    /// Likewise, and the last slice of a machine.
    async fn lock_for(
        &self,
        connection: &mut sqlx::PgConnection,
        task: &TaskId,
        machine: Option<MachineId>,
    ) -> Result<Locked> {
        let (budget, now) = store::read(connection, task)
            .await?
            .ok_or_else(|| not_found(task))?;
        let window = budget.terms.window.at(now).map(|span| span.begins_at);
        let mut named = store::overdrawn(connection, task, window).await?;
        named.extend(machine.map(|machine| (task.clone(), machine, 0)));
        let tasks = budget
            .terms
            .parent
            .into_iter()
            .chain([task.clone()])
            .collect();
        Locked::lock(connection, &tasks, &named, self.settings.lease).await
    }

    /// Writes all that was moved, who did so, and what it comes to.
    async fn finish<T: Serialize + Sync>(
        &self,
        mut request: OpenRequest,
        mut locked: Locked,
        context: Context,
        act: Act,
        task: &TaskId,
        outcome: &T,
    ) -> Result<()> {
        let connection = request.connection();
        let reached = locked.write(connection).await?;
        let (thresholds, mut entries) = locked::told(&reached);
        entries.push(Entry::ok(context, act.action(), task.to_string()));
        let mut changes = vec![act.change(task)];
        changes.extend(thresholds);
        let now = self.ambient.clock.now();
        audit::append(connection, now, &entries).await?;
        events::append(connection, Stream::Budgets, now, &changes).await?;
        request.finish(outcome).await
    }
}

fn no_parent(parent: &TaskId) -> Problem {
    let detail = format!("there is no budget `{parent}` to take it from");
    Problem::new(Reason::BudgetNotFound, detail).at("budget.parent")
}
