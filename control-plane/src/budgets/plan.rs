//! What exchanges with machines come to, in memory: one budget, locked, with what there is
//! of it and who has which part. What was done is then written at once.

use std::collections::{BTreeMap, BTreeSet};

use authguardian_proto::ids::MachineId;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{
    account::{Account, Amount, Slice},
    budget::{Budget, State},
    movement::{Kind, Movement},
    size::{self, Ask},
    window::Span,
};

/// What a machine's callers wait for counts for so long: they wait no longer.
const WAITING: Duration = Duration::milliseconds(500);

/// A machine that was heard of within this time spends from a budget.
const SPENDING: Duration = Duration::seconds(10);

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
}

impl Held {
    /// What lies idle.
    pub(super) fn free(&self) -> Amount {
        self.slice.outstanding().saturating_sub(self.reserved)
    }

    /// What it has spent and set aside in all; and which machine it is, so that there is an
    /// order.
    fn used(&self) -> (Amount, MachineId) {
        (self.slice.reported + self.reserved, self.machine)
    }

    fn waits_for(&self, now: OffsetDateTime) -> Amount {
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
        if ends && held.slice.outstanding() == 0 && held.reserved == 0 {
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
            } else if !held.slice.is_closed && (held.window == window || held.heard_at < self.now) {
                // of the window, or of one that ended before the machine heard of it
                return Some(at);
            }
        }
        let is_barred = self.barred.contains(&machine);
        if ask == Ask::default() || self.budget.state == State::Closed || is_barred {
            return None;
        }
        self.held.push(Held {
            machine,
            epoch: last + 1,
            window,
            journal,
            slice: Slice::default(),
            reserved: 0,
            needed: 0,
            heard_at: self.now,
            leased_until: self.now,
            is_silent: false,
        });
        Some(self.held.len() - 1)
    }

    fn hear(&mut self, machine: MachineId, journal: i64, report: Report) -> Result<usize, Refused> {
        let is_it = |held: &Held| held.machine == machine && held.epoch == report.epoch;
        let at = self.held.iter().position(is_it).ok_or(Refused::Unknown)?;
        let held = &mut self.held[at];
        let account = self.accounts.entry(held.window).or_default();
        if held.journal != journal {
            return Err(Refused::Contradiction);
        }
        // one after the other, as the ledger tells them
        let (before, was) = (*account, held.slice);
        account
            .hear(&mut held.slice, report.returned, was.reported)
            .map_err(|_| Refused::Contradiction)?;
        let returned = held.slice.returned - was.returned;
        if returned > 0 {
            let movement = Movement::of(Kind::Returned, returned, held, before, *account);
            self.movements.push(movement);
        }
        let before = *account;
        account
            .hear(&mut held.slice, report.returned, report.spent)
            .map_err(|_| Refused::Contradiction)?;
        let reported = held.slice.reported - was.reported;
        if reported > 0 {
            let movement = Movement::of(Kind::Reported, reported, held, before, *account);
            self.movements.push(movement);
        }
        held.reserved = report.reserved;
        held.needed = report.ask.needed;
        Ok(at)
    }

    /// Whether it is of the present window, and was not ended.
    fn is_present(&self, at: usize) -> bool {
        let held = &self.held[at];
        let is_of_window = held.window == self.window.map(|span| span.begins_at);
        is_of_window && !held.slice.is_closed && !self.is_lost(at)
    }

    /// Whether its machine has begun anew since, with another disk.
    fn is_lost(&self, at: usize) -> bool {
        let held = &self.held[at];
        self.held.iter().any(|other| {
            other.machine == held.machine
                && other.epoch > held.epoch
                && other.journal != held.journal
        })
    }

    /// Whether it may be spent from as far as the budget and its machine go.
    fn may_spend(&self, at: usize) -> bool {
        self.budget.state == State::Active && !self.barred.contains(&self.held[at].machine)
    }

    fn give(&mut self, at: usize, ask: Ask) {
        let (claimants, others_need) = (self.claimants(at), self.others_need(at));
        let ahead = self.ahead_of(at, ask.needed);
        let ahead = ahead.map_or(0, |first| self.held[first].waits_for(self.now));
        let held = &mut self.held[at];
        let account = self.accounts.entry(held.window).or_default();
        let before = *account;
        let covered = account.cover(&mut held.slice);
        if covered > 0 {
            self.movements
                .push(Movement::of(Kind::Covered, covered, held, before, *account));
        }
        let before = *account;
        // what is there for those that come first is not for this one
        let rest = account.rest().saturating_sub(ahead);
        let given = size::given(rest, ask, others_need.saturating_sub(ahead), claimants);
        let given = account.grant(&mut held.slice, given);
        if given > 0 {
            self.movements
                .push(Movement::of(Kind::Granted, given, held, before, *account));
        }
        held.needed = ask.needed.saturating_sub(given);
        let needed = held.needed;
        let others = (0..self.held.len()).filter(|other| *other != at && self.is_idle(*other));
        self.is_wanted |=
            needed > 0 && others.map(|other| self.held[other].free()).sum::<Amount>() > 0;
    }

    /// Whether it can be asked to give back: nobody waits there.
    fn is_idle(&self, at: usize) -> bool {
        let held = &self.held[at];
        self.is_present(at) && held.needed == 0 && !held.is_silent
    }

    /// Machines that spend from it now, this one included.
    fn claimants(&self, at: usize) -> u64 {
        let others = self.held.iter().enumerate().filter(|(other, held)| {
            *other != at && self.is_present(*other) && held.heard_at + SPENDING > self.now
        });
        others.count() as u64 + 1
    }

    /// What callers of other machines wait for.
    fn others_need(&self, at: usize) -> Amount {
        let others = (0..self.held.len()).filter(|other| *other != at && self.is_present(*other));
        others
            .map(|other| self.held[other].waits_for(self.now))
            .sum()
    }

    /// Whose callers come before those of a machine that waits for so much: where there is
    /// not enough for all, the machine that has used least comes first, so that what is left
    /// in parts that are of use to nobody comes together.
    fn ahead_of(&self, at: usize, needed: Amount) -> Option<usize> {
        let waiting = (0..self.held.len()).filter(|other| *other == at || self.waits(*other));
        let first = waiting.min_by_key(|other| self.held[*other].used());
        first.filter(|first| *first != at && needed > 0)
    }

    /// How much of what is free with a machine others wait for: all that they do where nobody
    /// waits at this one, else what the first of them does beyond what lies idle.
    fn asked_of(&self, at: usize) -> Amount {
        let account = self.accounts.get(&self.held[at].window);
        let rest = account.map_or(0, Account::rest);
        let all = || 0..self.held.len();
        let idle: Vec<usize> = all().filter(|other| self.is_idle(*other)).collect();
        let needed = self.held[at].needed;
        if needed == 0 {
            let missing = self.others_need(at).saturating_sub(rest);
            return self.asked_among(&idle, at, missing);
        }
        let Some(first) = self.ahead_of(at, needed) else {
            return 0;
        };
        let idle: Amount = idle.iter().map(|other| self.held[*other].free()).sum();
        let missing = self.held[first].waits_for(self.now);
        let later = all().filter(|other| *other != first && (*other == at || self.waits(*other)));
        let later: Vec<usize> = later.collect();
        self.asked_among(&later, at, missing.saturating_sub(rest + idle))
    }

    /// What one of these machines is asked for, so that so much comes together.
    fn asked_among(&self, among: &[usize], at: usize, missing: Amount) -> Amount {
        let free = among.iter().map(|other| self.held[*other].free());
        let asked = size::asked_back(missing, &free.collect::<Vec<Amount>>());
        let own = among.iter().zip(asked).find(|(other, _)| **other == at);
        own.map_or(0, |(_, asked)| asked)
    }

    /// Whether callers wait there.
    fn waits(&self, at: usize) -> bool {
        self.is_present(at) && self.held[at].waits_for(self.now) > 0
    }

    /// What an operator has asked for since the machine was heard of last; of a closed budget
    /// all that is free.
    fn recalled(&self, at: usize) -> Amount {
        let held = &self.held[at];
        if self.budget.state == State::Closed {
            return held.free();
        }
        let is_recalled = self
            .budget
            .recalled_at
            .is_some_and(|recalled| recalled >= held.heard_at);
        if is_recalled && held.needed == 0 {
            held.free()
        } else {
            0
        }
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
        let present = self.window.map(|span| span.begins_at);
        let account = self.accounts.get(&present).copied();
        let held = at.map(|at| self.held[at]);
        Answer {
            epoch: held.map_or(0, |held| held.epoch),
            granted: held.map_or(0, |held| held.slice.granted),
            returned: held.map_or(0, |held| held.slice.returned),
            reported: held.map_or(0, |held| held.slice.reported),
            lease: Duration::ZERO,
            give_back,
            is_over: at.is_some_and(|at| !self.is_present(at)),
            account: account.unwrap_or_else(|| Account::new(self.budget.terms.total)),
            window: self.window,
        }
    }
}
