//! What operators do with budgets.

use std::collections::BTreeSet;

use authguardian_proto::{
    ids::{MachineId, TaskId},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};

use super::{
    Budgets,
    account::{Account, Amount},
    budget::{Budget, State, Terms, check_amount, not_found},
    children,
    locked::{self, Locked},
    movement::{Kind, Movement},
    plan::{Held, Plan},
    store,
};
use crate::{
    audit::{self, Context, Entry},
    db::request::{Begun, OpenRequest},
    error::{Error, Result},
    events::{self, ChangeBody, Stream},
};

/// A budget that is to be made.
#[derive(Debug, Clone, Serialize)]
pub struct NewBudget {
    /// For what.
    pub task: TaskId,
    /// What is said of it.
    pub terms: Terms,
}

/// A slice that was settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// As it ended.
    pub slice: Held,
    /// What is free again.
    pub released: Amount,
}

impl Budgets {
    /// Makes a budget; what it has is taken from its parent.
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
        let mut tasks: BTreeSet<TaskId> = terms.parent.iter().cloned().collect();
        // a parent before what is taken from it: whoever moves both does so too
        if let Some(parent) = &terms.parent {
            let mut locked = Locked::lock(connection, &tasks, &[], self.settings.lease).await?;
            let plan = locked.get_mut(parent);
            let plan = plan.ok_or_else(|| Error::from(no_parent(parent)))?;
            take_from_parent(plan, &new.task, terms.total, Kind::ChildCreated)?;
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
        tasks = BTreeSet::from([new.task.clone()]);
        let mut locked = Locked::lock(connection, &tasks, &[], self.settings.lease).await?;
        let plan = locked.get_mut(&new.task);
        let plan = plan.ok_or_else(|| not_found(&new.task))?;
        plan.create();
        let budget = plan.budget.clone();
        self.finish(request, locked, context, "create", &new.task, &budget)
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
            take_from_parent(plan, &task, by, Kind::ChildToppedUp)?;
        }
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        plan.top_up(by);
        let budget = plan.budget.clone();
        self.finish(request, locked, context, "topped_up", &task, &budget)
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
        plan.budget.recalled_at = Some(plan.now);
        let asked = plan.idle();
        self.finish(request, locked, context, "rebalanced", &task, &asked)
            .await?;
        Ok(asked)
    }

    /// Ends the slice of a machine whose lease has ended: so much counts as spent (`None`:
    /// what it has told), and the rest is free again.
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
        let mut locked = self.lock_with_parent(request.connection(), &task).await?;
        let plan = locked.get_mut(&task).ok_or_else(|| not_found(&task))?;
        let settled = plan.settle(machine, spent)?;
        children::count(&mut locked, &task)?;
        self.finish(request, locked, context, "settled", &task, &settled)
            .await?;
        Ok(settled)
    }

    /// Stops reservations, or lets them go on.
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
        let (state, what) = if frozen {
            (State::Frozen, "frozen")
        } else {
            (State::Active, "thawed")
        };
        plan.budget.state = state;
        let budget = plan.budget.clone();
        self.finish(request, locked, context, what, &task, &budget)
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
        self.finish(request, locked, context, "closed", &task, &budget)
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
        let (budget, now) = store::read(connection, task)
            .await?
            .ok_or_else(|| not_found(task))?;
        let window = budget.terms.window.at(now).map(|span| span.begins_at);
        let overdrawn = store::overdrawn(connection, task, window).await?;
        let tasks = budget
            .terms
            .parent
            .into_iter()
            .chain([task.clone()])
            .collect();
        Locked::lock(connection, &tasks, &overdrawn, self.settings.lease).await
    }

    /// Writes all that was moved, who did so, and what it comes to.
    async fn finish<T: Serialize + Sync>(
        &self,
        mut request: OpenRequest,
        mut locked: Locked,
        context: Context,
        what: &'static str,
        task: &TaskId,
        outcome: &T,
    ) -> Result<()> {
        let connection = request.connection();
        let reached = locked.write(connection).await?;
        let (thresholds, mut entries) = locked::told(&reached);
        entries.push(Entry::ok(
            context,
            format!("budget.{}", verb(what)),
            task.to_string(),
        ));
        let mut changes = vec![changed(task, what, None)];
        changes.extend(thresholds);
        let now = self.ambient.clock.now();
        audit::append(connection, now, &entries).await?;
        events::append(connection, Stream::Budgets, now, &changes).await?;
        request.finish(outcome).await
    }
}

/// What the audit log calls it.
fn verb(what: &'static str) -> &'static str {
    match what {
        "topped_up" => "top_up",
        "rebalanced" => "rebalance",
        "settled" => "settle",
        "frozen" => "freeze",
        "thawed" => "thaw",
        "closed" => "close",
        other => other,
    }
}

/// What machines are told of a budget.
pub(super) fn changed(task: &TaskId, what: &str, machine: Option<MachineId>) -> ChangeBody {
    let what = if what == "create" { "created" } else { what };
    ChangeBody::BudgetChanged {
        task_id: task.clone(),
        what: what.to_owned(),
        percent: 0,
        machine_id: machine,
    }
}

fn no_parent(parent: &TaskId) -> Problem {
    let detail = format!("there is no budget `{parent}` to take it from");
    Problem::new(Reason::BudgetNotFound, detail).at("budget.parent")
}

/// Takes what a child has from its parent.
fn take_from_parent(plan: &mut Plan, child: &TaskId, amount: Amount, kind: Kind) -> Result<()> {
    plan.budget.check_active()?;
    if plan.window.is_some() {
        let detail =
            "expected a budget without a window: what is taken from it does not end with one";
        return Err(Error::invalid("budget.parent", detail));
    }
    let account = plan.present_account();
    if account.rest() < amount {
        let detail = format!(
            "budget `{}` has {} left, and {amount} are to be taken from it",
            plan.budget.task,
            account.rest()
        );
        return Err(Error::new(Reason::BudgetExhausted, detail));
    }
    let after = Account {
        outstanding: account.outstanding + amount,
        ..account
    };
    plan.set_present(kind, amount, Some(child.clone()), after);
    Ok(())
}

impl Plan {
    /// What there is of it now.
    pub(super) fn present_account(&self) -> Account {
        let window = self.window.map(|span| span.begins_at);
        let fresh = Account::new(self.budget.terms.total);
        self.accounts.get(&window).copied().unwrap_or(fresh)
    }

    /// Moves the present account.
    pub(super) fn set_present(
        &mut self,
        kind: Kind,
        amount: Amount,
        child: Option<TaskId>,
        after: Account,
    ) {
        let before = self.present_account();
        let window = self.window.map(|span| span.begins_at);
        self.movements
            .push(Movement::at(kind, amount, window, child, before, after));
        self.accounts.insert(window, after);
    }

    fn create(&mut self) {
        let window = self.window.map(|span| span.begins_at);
        let (total, nothing) = (self.budget.terms.total, Account::default());
        let after = Account::new(total);
        self.movements.push(Movement::at(
            Kind::Created,
            total,
            window,
            None,
            nothing,
            after,
        ));
    }

    fn top_up(&mut self, by: Amount) {
        let account = self.present_account();
        self.budget.terms.total += by;
        let after = Account {
            total: account.total + by,
            ..account
        };
        self.set_present(Kind::ToppedUp, by, None, after);
        let window = self.window.map(|span| span.begins_at);
        for held in self.held.iter_mut().filter(|held| held.window == window) {
            let mut account = after;
            if let Some(known) = self.accounts.get(&window) {
                account = *known;
            }
            let before = account;
            let covered = account.cover(&mut held.slice);
            if covered > 0 {
                self.movements
                    .push(Movement::of(Kind::Covered, covered, held, before, account));
                self.accounts.insert(window, account);
            }
        }
    }

    /// What lies idle with machines that are heard.
    fn idle(&self) -> Amount {
        let heard = self
            .held
            .iter()
            .filter(|held| !held.is_silent && held.needed == 0);
        heard.map(Held::free).sum()
    }

    fn close(&mut self) {
        if self.budget.state != State::Closed {
            self.budget.state = State::Closed;
            let account = self.present_account();
            self.set_present(Kind::Closed, 0, None, account);
        }
    }

    /// Ends the open slices of a machine that is silent.
    ///
    /// # Errors
    /// As [`Budgets::settle`]; nothing was done.
    pub fn settle(&mut self, machine: MachineId, spent: Option<Amount>) -> Result<Settled> {
        let open = |held: &&mut Held| held.machine == machine && !held.slice.is_closed;
        let mut open: Vec<&mut Held> = self.held.iter_mut().filter(open).collect();
        if open.is_empty() {
            let detail = format!("machine `{machine}` has no open slice of this budget");
            return Err(Problem::new(Reason::ReservationNotFound, detail)
                .at("machine_id")
                .into());
        }
        // what it held on a disk that it has no more is told by nobody, and is settled alone
        // where the machine lives on with another one, or where it is said how much it was
        let latest = open.iter().max_by_key(|held| held.epoch);
        let latest = latest.map(|held| held.journal);
        let is_lost = |held: &&mut Held| Some(held.journal) != latest;
        let is_leased = |held: &&mut Held| held.leased_until > self.now;
        if open.iter().any(is_lost) && (spent.is_some() || open.iter().any(is_leased)) {
            open.retain(is_lost);
        }
        if let Some(leased) = open.iter().find(|held| held.leased_until > self.now) {
            let left = (leased.leased_until - self.now).whole_seconds() + 1;
            let detail = format!("its lease ends in {left} s: it may be spent from until then");
            return Err(Problem::new(Reason::RevisionConflict, detail)
                .at("machine_id")
                .into());
        }
        if let Some(spent) = spent {
            check_settled(&open, spent)?;
        }
        let mut settled = None;
        for held in &mut open {
            let account = self.accounts.entry(held.window).or_default();
            let before = *account;
            let most = held.slice.granted.saturating_sub(held.slice.returned);
            let spent = spent.unwrap_or(0).min(most).max(held.slice.reported);
            let told = held.slice.reported;
            let same = (held.slice.returned, spent);
            account
                .hear(&mut held.slice, same.0, same.1)
                .map_err(Error::internal)?;
            if spent > told {
                let amount = spent - told;
                self.movements
                    .push(Movement::of(Kind::Reported, amount, held, before, *account));
            }
            let (before, released) = (*account, held.slice.outstanding());
            account.settle(&mut held.slice, spent);
            held.is_silent = false;
            held.reserved = 0;
            held.needed = 0;
            self.movements.push(Movement::of(
                Kind::Settled,
                released,
                held,
                before,
                *account,
            ));
            let earlier = settled.map_or(0, |settled: Settled| settled.released);
            settled = Some(Settled {
                slice: **held,
                released: earlier + released,
            });
        }
        settled.ok_or_else(|| Error::internal("an open slice was settled and is not there"))
    }
}

/// What is said to be spent has to be what the one open slice can have been.
fn check_settled(open: &[&mut Held], spent: Amount) -> Result<()> {
    let [held] = open else {
        let detail = format!("expected none: the machine has {} open slices", open.len());
        return Err(Error::invalid("spent", detail));
    };
    let (told, most) = (
        held.slice.reported,
        held.slice.granted.saturating_sub(held.slice.returned),
    );
    if (told..=most.max(told)).contains(&spent) {
        return Ok(());
    }
    Err(Error::invalid(
        "spent",
        format!("expected {told} (what it has told) to {most} (what it had)"),
    ))
}
