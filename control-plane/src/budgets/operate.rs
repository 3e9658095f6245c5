//! What operators move in a budget.

use authguardian_proto::{
    amount::MAX as MAX_AMOUNT,
    ids::{MachineId, TaskId},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    account::{Account, Amount, Slice},
    budget::State,
    movement::{Kind, Movement},
    plan::{Held, Plan, Report},
    restore::NO_JOURNAL,
};
use crate::error::{Error, Result};

/// A slice that was settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// As it ended.
    pub slice: Held,
    /// What is free again.
    pub released: Amount,
}

impl Plan {
    /// Begins its ledger.
    pub(super) fn create(&mut self) {
        let window = self.window.map(|span| span.begins_at);
        self.begin(window);
    }

    /// Begins the ledger of a window, of which nothing was moved yet.
    pub(super) fn begin(&mut self, window: Option<OffsetDateTime>) -> Account {
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
        self.accounts.insert(window, after);
        after
    }

    /// Takes what a budget below this one has.
    ///
    /// # Errors
    /// `BUDGET_FROZEN`, `BUDGET_EXHAUSTED`, and `INVALID_ARGUMENT` where there are windows;
    /// nothing was done.
    pub(super) fn give_child(&mut self, child: &TaskId, amount: Amount, kind: Kind) -> Result<()> {
        self.budget.check_active()?;
        if self.window.is_some() {
            let detail =
                "expected a budget without a window: what is taken from it does not end with one";
            return Err(Error::invalid("budget.parent", detail));
        }
        let rest = self.present_account().rest();
        if rest < amount {
            let task = &self.budget.task;
            let detail =
                format!("budget `{task}` has {rest} left, and {amount} are to be taken from it");
            return Err(Error::new(Reason::BudgetExhausted, detail));
        }
        self.take_for_child(child, amount, kind);
        Ok(())
    }

    /// Takes what there is for a budget below this one.
    pub(super) fn take_for_child(&mut self, child: &TaskId, amount: Amount, kind: Kind) {
        let account = self.present_account();
        let after = Account {
            outstanding: account.outstanding + amount,
            ..account
        };
        self.set_present(kind, amount, Some(child.clone()), after);
    }

    /// Raises the total; what machines have spent beyond what they had is covered first.
    pub(super) fn top_up(&mut self, by: Amount) {
        let before = self.present_account();
        self.budget.terms.total += by;
        let account = Account {
            total: before.total + by,
            ..before
        };
        self.set_present(Kind::ToppedUp, by, None, account);
        self.cover_all();
    }

    /// Asks for what lies idle with machines that are heard; how much that is.
    pub(super) fn recall(&mut self) -> Amount {
        self.budget.recalled_at = Some(self.now);
        let heard = self.held.iter().filter(|held| !held.is_silent);
        let idle = heard.filter(|held| held.needed == 0);
        idle.map(Held::free).sum()
    }

    /// Ends it.
    pub(super) fn close(&mut self) {
        if self.budget.state != State::Closed {
            self.budget.state = State::Closed;
            let account = self.present_account();
            self.set_present(Kind::Closed, 0, None, account);
        }
    }

    /// Ends the open slices of a machine that is silent. Of a budget that is held it is said
    /// what the machine has spent, where nothing is known of it too.
    ///
    /// # Errors
    /// As `Budgets::settle`; nothing was done.
    pub fn settle(&mut self, machine: MachineId, spent: Option<Amount>) -> Result<Settled> {
        let mut open = self.to_settle(machine, spent)?;
        if open.is_empty() && self.budget.is_held() {
            self.check_lease(self.now)?;
            open.push(self.take_up_settled(machine));
        }
        let mut settled: Option<Settled> = None;
        for at in open {
            let released = self.settle_one(at, spent.unwrap_or(0))?;
            let earlier = settled.map_or(0, |settled| settled.released);
            settled = Some(Settled {
                slice: self.held[at],
                released: earlier + released,
            });
        }
        settled.ok_or_else(|| not_held(machine))
    }

    /// Whether a machine has an open slice that is known.
    pub(super) fn has_open(&self, machine: MachineId) -> bool {
        let mut held = self.held.iter();
        held.any(|held| held.machine == machine && !held.slice.is_closed)
    }

    /// Which slices of a machine are settled.
    fn to_settle(&self, machine: MachineId, spent: Option<Amount>) -> Result<Vec<usize>> {
        let is_open = |held: &Held| held.machine == machine && !held.slice.is_closed;
        let mut open: Vec<usize> = (0..self.held.len())
            .filter(|at| is_open(&self.held[*at]))
            .collect();
        // what it held on a disk that it has no more is told by nobody, and is settled alone
        // where the machine lives on with another one, or where it is said how much it was
        let latest = open.iter().max_by_key(|at| self.held[**at].epoch);
        let latest = latest.map(|at| self.held[*at].journal);
        let is_lost = |at: &usize| Some(self.held[*at].journal) != latest;
        let is_leased = |at: &usize| self.held[*at].leased_until > self.now;
        if open.iter().any(is_lost) && (spent.is_some() || open.iter().any(is_leased)) {
            open.retain(is_lost);
        }
        for at in &open {
            self.check_lease(self.held[*at].leased_until)?;
        }
        if let (Some(spent), [_, ..]) = (spent, &open[..]) {
            self.check_settled(&open, spent)?;
        }
        Ok(open)
    }

    /// What may be spent from is not settled: of a budget that is held, machines may have
    /// been told so just before it was.
    fn check_lease(&self, leased_until: OffsetDateTime) -> Result<()> {
        let held = self.budget.hold.filter(|hold| hold.is_open);
        let unknown = held.map_or(self.now, |hold| hold.since + self.lease);
        let leased_until = leased_until.max(unknown);
        if leased_until <= self.now {
            return Ok(());
        }
        let left = (leased_until - self.now).whole_seconds() + 1;
        let detail = format!("its lease ends in {left} s: it may be spent from until then");
        let problem = Problem::new(Reason::RevisionConflict, detail);
        Err(problem.at("machine_id").into())
    }

    /// A slice of a machine of which nothing is known but what is said now.
    fn take_up_settled(&mut self, machine: MachineId) -> usize {
        let own = self.held.iter().filter(|held| held.machine == machine);
        let last = own.map(|held| held.epoch).max();
        let report = Report {
            epoch: last.unwrap_or(0) + 1,
            ..Report::default()
        };
        self.take_up(machine, NO_JOURNAL, &report)
    }

    /// What is said to be spent has to be what the one open slice can have been.
    fn check_settled(&self, open: &[usize], spent: Amount) -> Result<()> {
        let [at] = open else {
            let detail = format!("expected none: the machine has {} open slices", open.len());
            return Err(Error::invalid("spent", detail));
        };
        let Held { slice, .. } = self.held[*at];
        let (told, known) = (slice.reported, slice.granted.saturating_sub(slice.returned));
        // a restored database does not know what it had
        let most = if self.budget.is_held() {
            MAX_AMOUNT
        } else {
            known
        };
        if (told..=most.max(told)).contains(&spent) {
            return Ok(());
        }
        let detail = format!("expected {told} (what it has told) to {most} (what it had)");
        Err(Error::invalid("spent", detail))
    }

    /// At least so much counts as spent of a slice, and the rest is free; how much.
    fn settle_one(&mut self, at: usize, spent: Amount) -> Result<Amount> {
        let Slice {
            returned, reported, ..
        } = self.held[at].slice;
        let (told, spent) = (reported, spent.max(reported));
        if self.budget.is_held() {
            let report = Report {
                granted: returned + spent,
                returned,
                ..Report::default()
            };
            self.believe(at, &report);
        }
        let held = &mut self.held[at];
        let account = self.accounts.entry(held.window).or_default();
        let before = *account;
        account
            .hear(&mut held.slice, returned, spent)
            .map_err(Error::internal)?;
        if spent > told {
            let movement = Movement::of(Kind::Reported, spent - told, held, before, *account);
            self.movements.push(movement);
        }
        let (before, released) = (*account, held.slice.outstanding());
        account.settle(&mut held.slice);
        (held.is_silent, held.reserved, held.needed) = (false, 0, 0);
        let movement = Movement::of(Kind::Settled, released, held, before, *account);
        self.movements.push(movement);
        Ok(released)
    }
}

pub(super) fn not_held(machine: MachineId) -> Error {
    let detail = format!("machine `{machine}` has no open slice of this budget");
    Problem::new(Reason::ReservationNotFound, detail)
        .at("machine_id")
        .into()
}
