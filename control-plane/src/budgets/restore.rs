//! What machines know better than the database, which was restored from a backup: it is
//! believed. What does not fit into the total is overdraft, once it was spent.

use authguardian_proto::{amount::MAX as MAX_AMOUNT, ids::MachineId};
use time::Duration;

use super::{
    account::{Account, Amount, Slice},
    hold::Hold,
    movement::{Kind, Movement},
    plan::{Held, Plan, Refused, Report},
};

/// Stands for the journal of a slice that nobody has told of: it is that of whoever does.
pub(super) const NO_JOURNAL: i64 = 0;

impl Account {
    /// Takes a machine's word for what it was given and has given back, as far as there is a
    /// total for it. By how much more is out then.
    pub fn restore(&mut self, slice: &mut Slice, granted: Amount, returned: Amount) -> Amount {
        // what was given and is back already was never missing
        let more = granted.saturating_sub(slice.granted);
        let through = more.min(returned.saturating_sub(slice.returned));
        slice.granted += through;
        slice.returned += through;
        let restored = (more - through).min(self.left());
        let before = *slice;
        slice.granted += restored;
        self.overdraft = self.overdraft + slice.overdraft() - before.overdraft();
        self.outstanding = self.outstanding + slice.outstanding() - before.outstanding();
        restored
    }
}

impl Report {
    /// Whether its amounts are none that a budget can have.
    fn is_too_much(&self) -> bool {
        self.granted.max(self.spent) > MAX_AMOUNT
    }
}

impl Plan {
    /// Where a slice is that a machine tells of: one that is not known is taken up, where
    /// that can be, and what is not known of it.
    ///
    /// # Errors
    /// [`Refused`]; nothing was done.
    pub(super) fn find(
        &mut self,
        machine: MachineId,
        journal: i64,
        report: &Report,
    ) -> Result<usize, Refused> {
        let is_it = |held: &Held| held.machine == machine && held.epoch == report.epoch;
        let known = self.held.iter().position(is_it);
        let Some(at) = known else {
            if self.may_have_forgotten(machine, report.epoch) {
                return Err(Refused::Unknown);
            }
            if report.returned > report.granted || report.is_too_much() {
                return Err(Refused::Contradiction);
            }
            // where nothing was given nothing is missing
            if report.granted > 0 || report.spent > 0 {
                self.doubt(machine);
            }
            let at = self.take_up(machine, journal, report);
            self.believe(at, report);
            return Ok(at);
        };
        let held = &mut self.held[at];
        if held.journal == NO_JOURNAL {
            held.journal = journal;
        }
        if held.journal != journal || report.returned > report.granted.max(held.slice.granted) {
            return Err(Refused::Contradiction);
        }
        if !held.slice.is_closed && report.granted > held.slice.granted {
            if report.is_too_much() {
                return Err(Refused::Contradiction);
            }
            if !held.is_restored {
                self.doubt(machine);
            }
            self.believe(at, report);
        }
        Ok(at)
    }

    /// The hold of a budget that is made below a held one now.
    pub(super) fn hold_of_child(&self) -> Option<Hold> {
        let hold = self.budget.hold.filter(|hold| hold.is_open)?;
        Some(Hold {
            // so that all is asked for once more
            since: self.now.max(hold.since + Duration::MICROSECOND),
            ..hold
        })
    }

    /// Ends its hold: what machines have told covers each other as far as there is a total.
    pub fn release(&mut self) {
        if let Some(hold) = self.budget.hold.as_mut().filter(|hold| hold.is_open) {
            hold.is_open = false;
            self.cover_all();
        }
    }

    /// Covers what was spent beyond slices of the present window with what is left.
    pub(super) fn cover_all(&mut self) {
        let window = self.window.map(|span| span.begins_at);
        let mut account = self.present_account();
        for held in self.held.iter_mut().filter(|held| held.window == window) {
            let before = account;
            let covered = account.cover(&mut held.slice);
            if covered > 0 {
                self.movements
                    .push(Movement::of(Kind::Covered, covered, held, before, account));
            }
        }
        self.accounts.insert(window, account);
    }

    /// What was spent beyond slices of before a restore, in the present window.
    pub(super) fn restored_overdraft(&self) -> Amount {
        let window = self.window.map(|span| span.begins_at);
        let restored = self
            .held
            .iter()
            .filter(|held| held.is_restored && held.window == window);
        restored.map(|held| held.slice.overdraft()).sum()
    }

    /// A slice of a machine of which nothing is known.
    pub(super) fn take_up(&mut self, machine: MachineId, journal: i64, report: &Report) -> usize {
        let told = report.window.and_then(|at| self.budget.terms.window.at(at));
        let window = told.or(self.window).map(|span| span.begins_at);
        if !self.accounts.contains_key(&window) {
            self.begin(window);
        }
        let slice = (machine, report.epoch, window);
        self.held.push(Held {
            is_restored: true,
            ..Held::begin(slice, journal, self.now)
        });
        self.held.len() - 1
    }

    /// Takes a machine's word for what it was given.
    pub(super) fn believe(&mut self, at: usize, report: &Report) {
        let held = &mut self.held[at];
        held.is_restored = true;
        let account = self.accounts.entry(held.window).or_default();
        let before = *account;
        let restored = account.restore(&mut held.slice, report.granted, report.returned);
        if restored > 0 {
            let movement = Movement::of(Kind::Restored, restored, held, before, *account);
            self.movements.push(movement);
        }
    }

    /// Whether history was forgotten in which this slice may have been: those of earlier
    /// windows are, all but the last.
    fn may_have_forgotten(&self, machine: MachineId, epoch: i64) -> bool {
        let mut own = self.held.iter().filter(|held| held.machine == machine);
        self.window.is_some()
            && !self.budget.is_held()
            && own.any(|held| held.epoch > epoch && !held.is_restored)
    }

    /// A machine knows more than the database. Where that was not restored as far as anybody
    /// has said, or the machine has told all that it knew then, it was restored since: the
    /// budget is held from now on.
    fn doubt(&mut self, machine: MachineId) {
        if self.budget.is_held() || self.late.contains(&machine) {
            return;
        }
        self.budget.hold = Some(Hold {
            since: self.now,
            as_of: self.budget.created_at,
            is_open: true,
        });
        for held in self.held.iter_mut().filter(|held| !held.slice.is_closed) {
            held.is_restored = true;
        }
        self.doubted = Some(machine);
    }
}
