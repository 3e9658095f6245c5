//! What exchanges with machines come to, in memory: one budget, locked, with what there is
//! of it and who has which part. What was done is then written at once.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::ids::{MachineId, TaskId};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{
    account::{Account, Amount, Slice},
    budget::{Budget, State},
    movement::{Kind, Movement},
    restore::NO_JOURNAL,
    size::Ask,
    window::Span,
};

/// What a machine's callers wait for counts for so long: they wait no longer.
const WAITING: Duration = Duration::milliseconds(500);

/// What a machine tells of one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Which; 0: it knows of none.
    pub epoch: i64,
    /// All that it knows to have been given.
    pub granted: Amount,
    /// All that it has given back.
    pub returned: Amount,
    /// All that was spent.
    pub spent: Amount,
    /// What is set aside now.
    pub reserved: Amount,
    /// What it would like to have more.
    pub ask: Ask,
    /// It is not used any more.
    pub ends: bool,
    /// When the window that it is of began; `None`: there is none, or it is not known.
    pub window: Option<OffsetDateTime>,
}

/// What a machine is told of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Which; 0: it has none.
    pub epoch: i64,
    /// All that it was given.
    pub granted: Amount,
    /// All that was taken back of it.
    pub returned: Amount,
    /// All that was counted as spent of it.
    pub reported: Amount,
    /// How long it may be spent from.
    pub lease: Duration,
    /// How much of what is free others wait for.
    pub give_back: Amount,
    /// It is of a window that has ended, or was settled: all of it is to be given back.
    pub is_over: bool,
    /// What there is of the budget.
    pub account: Account,
    /// Of which window.
    pub window: Option<Span>,
}

/// A slice, and what its machine has said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Whose.
    pub machine: MachineId,
    /// Counts the machine's slices.
    pub epoch: i64,
    /// Of which window; `None`: there are none.
    #[serde(with = "time::serde::rfc3339::option")]
    pub window: Option<OffsetDateTime>,
    /// Of the machine; another has lost what this one held.
    pub journal: i64,
    /// Its numbers.
    pub slice: Slice,
    /// Set aside, as it was told last.
    pub reserved: Amount,
    /// What callers wait for, likewise.
    pub needed: Amount,
    /// When it was heard of last.
    #[serde(with = "time::serde::rfc3339")]
    pub heard_at: OffsetDateTime,
    /// Until when it may be spent from.
    #[serde(with = "time::serde::rfc3339")]
    pub leased_until: OffsetDateTime,
    /// Nothing was heard of it in time.
    pub is_silent: bool,
    /// It is of before a restore of the database: what its machine tells is believed, and all
    /// of it is given back.
    #[serde(default)]
    pub is_restored: bool,
}

impl Held {
    /// Nothing yet: of a machine, its number there and its window.
    pub(super) fn begin(
        (machine, epoch, window): (MachineId, i64, Option<OffsetDateTime>),
        journal: i64,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            machine,
            epoch,
            window,
            journal,
            slice: Slice::default(),
            reserved: 0,
            needed: 0,
            heard_at: now,
            leased_until: now,
            is_silent: false,
            is_restored: false,
        }
    }

    /// What lies idle.
    pub(super) fn free(&self) -> Amount {
        self.slice.outstanding().saturating_sub(self.reserved)
    }

    /// What it has spent and set aside in all; and which machine it is, so that there is an
    /// order.
    pub(super) fn used(&self) -> (Amount, MachineId) {
        (self.slice.reported + self.reserved, self.machine)
    }

    /// What its callers wait for, as far as they still do.
    pub(super) fn waits_for(&self, now: OffsetDateTime) -> Amount {
        if self.heard_at + WAITING > now {
            self.needed
        } else {
            0
        }
    }
}

/// A budget that is being moved.
#[derive(Debug, Clone)]
pub struct Plan {
    /// It.
    pub budget: Budget,
    /// The database's time.
    pub now: OffsetDateTime,
    /// How long a slice may be spent from without being heard of.
    pub lease: Duration,
    /// The present window.
    pub window: Option<Span>,
    /// By window.
    pub accounts: BTreeMap<Option<OffsetDateTime>, Account>,
    /// All that are open, and those that are told of.
    pub held: Vec<Held>,
    /// Machines that may not spend from it: they tell what they have spent, and get nothing.
    pub barred: BTreeSet<MachineId>,
    /// Machines that have not told all that they remember since the budget was held last.
    pub late: BTreeSet<MachineId>,
    /// Who has shown that the database was restored, where nobody has said so.
    pub doubted: Option<MachineId>,
    /// What was done.
    pub movements: Vec<Movement>,
    /// Whether machines are to be woken: they have what others wait for.
    pub is_wanted: bool,
}

/// Numbers that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such slice of the machine.
    #[error("this machine has no slice of this epoch")]
    Unknown,
    /// More was given back than was given, or the journal is another's.
    #[error("the numbers of this slice contradict what is known of it")]
    Contradiction,
}

impl Plan {
    /// Takes what a machine tells of a slice, and gives it more where it asks for it.
    ///
    /// # Errors
    /// [`Refused`]; nothing was done.
    pub fn exchange(
        &mut self,
        machine: MachineId,
        journal: i64,
        report: Report,
    ) -> Result<Answer, Refused> {
        let at = if report.epoch == 0 {
            self.present(machine, journal, report.ask)
        } else {
            Some(self.hear(machine, journal, report)?)
        };
        let Some(at) = at else {
            return Ok(self.answer(None, 0));
        };
        let gives = !report.ends && self.is_present(at) && self.may_spend(at);
        if gives {
            self.give(at, report.ask);
        }
        let is_over = !self.is_present(at);
        let give_back = if is_over {
            0
        } else {
            self.asked_of(at).max(self.recalled(at))
        };
        let held = &mut self.held[at];
        let ends = is_over || report.ends;
        // what a restored slice has left is what its machine knows of
        let has_left = report.granted > report.returned.saturating_add(report.spent);
        let is_empty = held.slice.outstanding() == 0 && !(held.is_restored && has_left);
        if ends && is_empty && held.reserved == 0 {
            held.slice.is_closed = true;
        }
        self.held[at].is_silent = self.is_lost(at);
        self.held[at].heard_at = self.now;
        let until = self.lease_of(at);
        // what was given once is kept to: the answer that ends it may be lost
        let held = &mut self.held[at];
        held.leased_until = held.leased_until.max(until);
        Ok(Answer {
            lease: until - self.now,
            ..self.answer(Some(at), give_back)
        })
    }

    /// The slice of a machine that knows of none: the one that it was given when an answer
    /// was lost, else a new one.
    fn present(&mut self, machine: MachineId, journal: i64, ask: Ask) -> Option<usize> {
        let window = self.window.map(|span| span.begins_at);
        let mut last = 0;
        for (at, held) in self.held.iter_mut().enumerate() {
            if held.machine != machine {
                continue;
            }
            last = last.max(held.epoch);
            if held.journal != journal {
                // what an earlier disk held stays counted as spent
                held.is_silent |= !held.slice.is_closed;
            } else if held.is_restored {
                // the machine may have forgotten what it spent of it: it is never told of
            } else if !held.slice.is_closed && (held.window == window || held.heard_at < self.now) {
                // of the window, or of one that ended before the machine heard of it
                return Some(at);
            }
        }
        let gives = self.budget.state != State::Closed && !self.budget.is_held();
        if ask == Ask::default() || !gives || self.barred.contains(&machine) {
            return None;
        }
        let slice = (machine, last + 1, window);
        self.held.push(Held::begin(slice, journal, self.now));
        Some(self.held.len() - 1)
    }

    fn hear(&mut self, machine: MachineId, journal: i64, report: Report) -> Result<usize, Refused> {
        let at = self.find(machine, journal, &report)?;
        let held = &mut self.held[at];
        let account = self.accounts.entry(held.window).or_default();
        // what was settled is out of its machine's hands
        let returned = report.returned.min(if held.slice.is_closed {
            held.slice.granted
        } else {
            report.returned
        });
        let (before, was) = (*account, held.slice);
        let refused = |_| Refused::Contradiction;
        // all of it can be taken, or nothing is
        let (mut account_then, mut slice_then) = (before, was);
        account_then
            .hear(&mut slice_then, returned, report.spent)
            .map_err(refused)?;
        // one after the other, as the ledger tells them
        account
            .hear(&mut held.slice, returned, was.reported)
            .map_err(refused)?;
        let more = held.slice.returned - was.returned;
        if more > 0 {
            let movement = Movement::of(Kind::Returned, more, held, before, *account);
            self.movements.push(movement);
        }
        let before = *account;
        account
            .hear(&mut held.slice, returned, report.spent)
            .map_err(refused)?;
        let reported = held.slice.reported - was.reported;
        if reported > 0 {
            let movement = Movement::of(Kind::Reported, reported, held, before, *account);
            self.movements.push(movement);
        }
        held.reserved = report.reserved;
        held.needed = report.ask.needed;
        Ok(at)
    }

    /// What there is of it now.
    pub(super) fn present_account(&self) -> Account {
        let window = self.window.map(|span| span.begins_at);
        let fresh = Account::new(self.budget.terms.total);
        self.accounts.get(&window).copied().unwrap_or(fresh)
    }

    /// Moves the present account, for nobody's slice.
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

    /// Whether it is of the present window, and was not ended.
    pub(super) fn is_present(&self, at: usize) -> bool {
        let held = &self.held[at];
        let is_of_window = held.window == self.window.map(|span| span.begins_at);
        is_of_window && !held.slice.is_closed && !held.is_restored && !self.is_lost(at)
    }

    /// Whether its machine has begun anew since, with another disk.
    fn is_lost(&self, at: usize) -> bool {
        let held = &self.held[at];
        self.held.iter().any(|other| {
            other.machine == held.machine
                && other.epoch > held.epoch
                && other.journal != held.journal
                && other.journal != NO_JOURNAL
        })
    }

    /// Whether it may be spent from as far as the budget and its machine go.
    fn may_spend(&self, at: usize) -> bool {
        let is_active = self.budget.state == State::Active && !self.budget.is_held();
        is_active && !self.barred.contains(&self.held[at].machine)
    }

    fn lease_of(&self, at: usize) -> OffsetDateTime {
        let account = self
            .accounts
            .get(&self.held[at].window)
            .copied()
            .unwrap_or_default();
        if !self.is_present(at) || !self.may_spend(at) || account.overdraft > 0 {
            return self.now;
        }
        let until = self.now + self.lease;
        self.window.map_or(until, |span| until.min(span.ends_at))
    }

    fn answer(&self, at: Option<usize>, give_back: Amount) -> Answer {
        let held = at.map(|at| self.held[at]);
        Answer {
            epoch: held.map_or(0, |held| held.epoch),
            granted: held.map_or(0, |held| held.slice.granted),
            returned: held.map_or(0, |held| held.slice.returned),
            reported: held.map_or(0, |held| held.slice.reported),
            lease: Duration::ZERO,
            give_back,
            is_over: at.is_some_and(|at| !self.is_present(at)),
            account: self.present_account(),
            window: self.window,
        }
    }
}
