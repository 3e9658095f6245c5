//! Budgets that are locked, and all that is moved of them in one transaction: read at
//! once, planned in memory, written at once.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::ids::{MachineId, TaskId};
use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::{
    account::Account,
    budget::{Budget, Terms},
    movement::{Kind, Movement},
    news::Act,
    plan::{Held, Plan, Report},
    store::{self, Kept, Recalls},
    window::Span,
};
use crate::{
    audit::{Context, Entry},
    error::Result,
    events::ChangeBody,
    identity::Machine,
    policy::Suspensions,
};

/// Budgets of one transaction.
pub(super) struct Locked {
    open: BTreeMap<TaskId, Open>,
    /// The database's time since they were locked.
    now: OffsetDateTime,
}

/// One of them.
struct Open {
    plan: Plan,
    /// As it is in the tables.
    budget: Budget,
    held: Vec<Held>,
    /// By window.
    kept: BTreeMap<Option<OffsetDateTime>, Kept>,
}

/// What was reached of a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) task: TaskId,
    pub(super) percent: u32,
}

impl Locked {
    /// Locks budgets in the order of their tasks and reads what there is of them: open
    /// slices, these epochs, and the last slices of these machines.
    pub(super) async fn lock(
        connection: &mut PgConnection,
        tasks: &BTreeSet<TaskId>,
        named: &[(TaskId, MachineId, i64)],
        lease: Duration,
    ) -> Result<Self> {
        let (budgets, now) = store::lock(connection, tasks).await?;
        let tasks: Vec<String> = budgets
            .iter()
            .map(|budget| budget.task.to_string())
            .collect();
        let mut open: BTreeMap<TaskId, Open> = budgets
            .into_iter()
            .map(|budget| (budget.task.clone(), Open::new(budget, now, lease)))
            .collect();
        if tasks.is_empty() {
            return Ok(Self { open, now });
        }
        let slices = store::slices(connection, &tasks, named).await?;
        let windows = slices.iter().map(|(task, held)| (task, held.window));
        let accounts = store::accounts(connection, &tasks, windows.collect()).await?;
        for (task, held) in slices {
            if let Some(open) = open.get_mut(&task) {
                open.held.push(held);
                open.plan.held.push(held);
            }
        }
        let mut locked = Self { open, now };
        for kept in accounts {
            locked.insert(kept);
        }
        for open in locked.open.values_mut() {
            open.begin_window();
        }
        Ok(locked)
    }

    /// What is moved of a budget; `None`: there is none.
    pub(super) fn get_mut(&mut self, task: &TaskId) -> Option<&mut Plan> {
        self.open.get_mut(task).map(|open| &mut open.plan)
    }

    /// Has machines get nothing of the budgets that nobody may spend from there.
    pub(super) fn bar(&mut self, machines: &[Machine], suspensions: &Suspensions) {
        for open in self.open.values_mut() {
            let budget = &open.budget;
            let barred = machines.iter().filter(|machine| {
                suspensions.cover_machine(machine.id) || !budget.is_spent_from(machine)
            });
            open.plan.barred = barred.map(|machine| machine.id).collect();
        }
    }

    /// Takes which machines have not told all that they remember since budgets were held last.
    pub(super) fn know(&mut self, machines: &[Machine], recalls: &Recalls) {
        for open in self.open.values_mut() {
            let Some(hold) = open.plan.budget.hold else {
                continue;
            };
            let has_told = |machine: &Machine| {
                let mut told = recalls.told.iter();
                told.any(|(of, told)| *of == machine.id && *told >= hold.since)
            };
            let late = machines.iter().filter(|machine| !has_told(machine));
            open.plan.late = late.map(|machine| machine.id).collect();
        }
    }

    /// Reads what there is of earlier windows in which machines tell of slices that are not
    /// known.
    pub(super) async fn read_windows(
        &mut self,
        connection: &mut PgConnection,
        told: &[(&TaskId, MachineId, Report)],
    ) -> Result<()> {
        let mut missing = BTreeSet::new();
        for (task, machine, report) in told {
            let Some(open) = self.open.get(*task) else {
                continue;
            };
            let is_it = |held: &Held| held.machine == *machine && held.epoch == report.epoch;
            let span = report.window.and_then(|at| open.budget.terms.window.at(at));
            let begins_at = span.map(|span| span.begins_at);
            let is_known = open.plan.accounts.contains_key(&begins_at);
            if report.epoch > 0 && !is_known && !open.plan.held.iter().any(is_it) {
                missing.insert((*task, begins_at));
            }
        }
        if !missing.is_empty() {
            for kept in store::accounts(connection, &[], missing).await? {
                self.insert(kept);
            }
        }
        Ok(())
    }

    /// Budgets of which a machine has shown that the database was restored, and which.
    pub(super) fn doubted(&self) -> impl Iterator<Item = (&TaskId, MachineId)> {
        let open = self.open.iter();
        open.filter_map(|(task, open)| Some((task, open.plan.doubted?)))
    }

    /// Takes an account, as it is in the tables.
    pub(super) fn insert(&mut self, kept: Kept) {
        if let Some(open) = self.open.get_mut(&kept.task) {
            open.plan.accounts.insert(kept.begins_at, kept.account);
            open.kept.insert(kept.begins_at, kept);
        }
    }

    /// Budgets of which callers wait for what lies idle elsewhere.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &TaskId> {
        let open = self.open.iter();
        open.filter(|(_, open)| open.plan.is_wanted)
            .map(|(task, _)| task)
    }

    /// Writes what was moved: the ledger first, then what it comes to. Which thresholds
    /// were reached.
    pub(super) async fn write(&mut self, connection: &mut PgConnection) -> Result<Vec<Reached>> {
        for open in self.open.values() {
            if open.plan.budget != open.budget {
                store::update(connection, &open.plan.budget).await?;
            }
        }
        let mut reached = Vec::new();
        for open in self.open.values_mut() {
            reached.extend(open.number());
        }
        let movements: Vec<(&TaskId, i64, &Movement)> =
            self.open.values().flat_map(Open::movements).collect();
        if !movements.is_empty() {
            store::append_movements(connection, &movements, self.now).await?;
            let accounts: Vec<Kept> = self.open.values().flat_map(Open::touched).collect();
            store::write_accounts(connection, &accounts).await?;
        }
        let slices: Vec<(&TaskId, &Held)> = self.open.values().flat_map(Open::changed).collect();
        if !slices.is_empty() {
            store::write_slices(connection, &slices).await?;
        }
        Ok(reached)
    }
}

impl Open {
    fn new(budget: Budget, now: OffsetDateTime, lease: Duration) -> Self {
        let plan = Plan {
            window: budget.terms.window.at(now),
            budget: budget.clone(),
            now,
            lease,
            accounts: BTreeMap::new(),
            held: Vec::new(),
            barred: BTreeSet::new(),
            late: BTreeSet::new(),
            doubted: None,
            movements: Vec::new(),
            is_wanted: false,
        };
        Self {
            plan,
            budget,
            held: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    /// There is an account of the present window; it is written once something moves in it.
    fn begin_window(&mut self) {
        let total = self.plan.budget.terms.total;
        let begins_at = self.plan.window.map(|span| span.begins_at);
        let fresh = || Account::new(total);
        self.plan.accounts.entry(begins_at).or_insert_with(fresh);
    }

    /// Gives movements their numbers, with the beginning of accounts that are new.
    fn number(&mut self) -> Vec<Reached> {
        let mut numbered = Vec::with_capacity(self.plan.movements.len());
        for movement in std::mem::take(&mut self.plan.movements) {
            let begins_at = movement.window;
            if !self.kept.contains_key(&begins_at) {
                let begun = self.begin(begins_at, movement.before);
                numbered.extend((movement.kind != Kind::Created).then_some(begun));
            }
            numbered.push(movement);
        }
        self.plan.movements = numbered;
        self.plan.movements.iter().for_each(|movement| {
            if let Some(kept) = self.kept.get_mut(&movement.window) {
                kept.movements += 1;
                kept.account = movement.after;
            }
        });
        let Terms {
            thresholds,
            carries_over,
            ..
        } = &self.plan.budget.terms;
        // what was carried out of a window is no more its total
        let now = self.plan.now;
        let is_over = |kept: &Kept| *carries_over && kept.ends_at.is_some_and(|end| end <= now);
        let kept = self.kept.values_mut().filter(|kept| !is_over(kept));
        let reached = kept.flat_map(|kept| {
            let before = kept.told_percent;
            kept.told_percent = highest(&kept.account, thresholds);
            let passed = thresholds.iter().filter(move |percent| **percent > before);
            let now = kept.told_percent;
            passed.filter(move |percent| **percent <= now)
        });
        let task = &self.plan.budget.task;
        let reached = reached.map(|percent| Reached {
            task: task.clone(),
            percent: *percent,
        });
        reached.collect()
    }

    fn begin(&mut self, begins_at: Option<OffsetDateTime>, account: Account) -> Movement {
        let span: Option<Span> = begins_at.and_then(|at| self.plan.budget.terms.window.at(at));
        let kept = Kept {
            task: self.plan.budget.task.clone(),
            begins_at,
            ends_at: span.map(|span| span.ends_at),
            account: Account::default(),
            movements: 0,
            told_percent: 0,
        };
        self.kept.insert(begins_at, kept);
        let (before, total) = (Account::default(), account.total);
        Movement::at(
            Kind::Created,
            total,
            begins_at,
            None,
            before,
            Account::new(total),
        )
    }

    fn movements(&self) -> impl Iterator<Item = (&TaskId, i64, &Movement)> {
        let mut left: BTreeMap<Option<OffsetDateTime>, i64> = BTreeMap::new();
        for movement in &self.plan.movements {
            *left.entry(movement.window).or_default() += 1;
        }
        self.plan.movements.iter().map(move |movement| {
            let last = self
                .kept
                .get(&movement.window)
                .map_or(0, |kept| kept.movements);
            let left = left.entry(movement.window).or_default();
            *left -= 1;
            (&self.plan.budget.task, last - *left, movement)
        })
    }

    fn touched(&self) -> impl Iterator<Item = Kept> {
        let windows: BTreeSet<_> = self
            .plan
            .movements
            .iter()
            .map(|movement| movement.window)
            .collect();
        windows
            .into_iter()
            .filter_map(|window| self.kept.get(&window).cloned())
    }

    fn changed(&self) -> impl Iterator<Item = (&TaskId, &Held)> {
        let held = self.plan.held.iter().enumerate();
        let changed = held.filter(|(at, held)| self.held.get(*at) != Some(held));
        changed.map(|(_, held)| (&self.plan.budget.task, held))
    }
}

/// The highest threshold that an account has come to; 0: none.
fn highest(account: &Account, thresholds: &[u32]) -> u32 {
    let reached = thresholds.iter().rev().find(|percent| {
        let spent = u128::from(account.reported) * 100;
        account.total > 0 && spent >= u128::from(account.total) * u128::from(**percent)
    });
    reached.copied().unwrap_or(0)
}

/// What is told of budgets of which a machine knows more than the database.
pub(super) fn doubts<'a>(
    doubted: impl Iterator<Item = (&'a TaskId, MachineId)>,
) -> (Vec<ChangeBody>, Vec<Entry>) {
    let told = doubted.map(|(task, machine)| {
        tracing::error!(%task, %machine, "a machine knows more of a budget than the database, which must have been restored from a backup: the budget is held until machines have told all, or an operator decides");
        let act = Act::Hold(machine);
        let subject = format!("{task} {machine}");
        (
            act.change(task),
            Entry::ok(Context::system(), act.action(), subject),
        )
    });
    told.unzip()
}

/// What is told of thresholds that were reached: to machines, and in the audit log.
pub(super) fn told(reached: &[Reached]) -> (Vec<ChangeBody>, Vec<Entry>) {
    let act = |reached: &Reached| Act::Threshold(reached.percent);
    let changes = reached
        .iter()
        .map(|reached| act(reached).change(&reached.task));
    let entries = reached.iter().map(|reached| {
        let Reached { task, percent } = reached;
        tracing::warn!(%task, percent, "so much of a budget was spent");
        let subject = format!("{task} {percent}%");
        Entry::ok(Context::system(), act(reached).action(), subject)
    });
    (changes.collect(), entries.collect())
}
