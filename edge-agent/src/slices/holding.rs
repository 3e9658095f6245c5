//! What this machine holds of one budget: the slice that is spent from, and those before it
//! that are still to be told of. Without I/O: what has to be on disk is returned, and is
//! there before what comes after it.

use std::time::Duration;

use super::{
    ledger::{Amount, Ledger, Report, Short},
    memory::Past,
    part::Part,
    rate::Rate,
};

/// How far ahead of its callers a machine wants to be.
const AHEAD: Duration = Duration::from_secs(10);

/// What this machine holds of one budget.
#[derive(Debug, Clone, Default, PartialEq, Hash)]
pub struct Holding {
    /// The slice that is spent from; `None`: there is none.
    present: Option<Part>,
    /// Those that are over, until nothing is left to be told.
    over: Vec<Part>,
    /// What callers wait for.
    needed: Amount,
    rate: Rate,
    /// A slice may have been given of which nothing was heard.
    has_asked: bool,
}

/// All that is known of one slice, for the next process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kept {
    /// Which.
    pub epoch: u64,
    /// Its numbers.
    pub report: Report,
    /// What counts as used after a crash.
    pub mark: Amount,
    /// When the window that it is of began, seconds since 1970; `None`: there is none, or it
    /// is not known.
    pub window: Option<i64>,
}

/// What is on disk of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Which.
    pub epoch: u64,
    /// All that was given back.
    pub returned: Amount,
    /// What counts as used after a crash.
    pub mark: Amount,
}

/// What is told of one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Told {
    /// Which; 0: there is none.
    pub epoch: u64,
    /// Its numbers.
    pub report: Report,
    /// How much more it would like to have.
    pub wanted: Amount,
    /// How much more callers wait for.
    pub needed: Amount,
    /// It is over.
    pub ends: bool,
    /// As of [`Kept::window`].
    pub window: Option<i64>,
}

/// What the control plane tells of one slice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Which; 0: none was given.
    pub epoch: u64,
    /// All that was given.
    pub granted: Amount,
    /// All that was taken back.
    pub returned: Amount,
    /// All that was counted as spent.
    pub reported: Amount,
    /// How long it may be spent from, from before it was asked.
    pub lease: Duration,
    /// How much of what is free others wait for.
    pub give_back: Amount,
    /// It is of a window that has ended, or was settled.
    pub is_over: bool,
    /// When the present window began, seconds since 1970; `None`: there is none.
    pub window: Option<i64>,
}

/// Why an amount cannot be set aside now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// There is no slice yet.
    None,
    /// Its lease has ended, or nothing was heard of it since this process began.
    Lease,
    /// There is only so much left.
    Short(Amount),
    /// This has to be on disk first.
    Write(Row),
}

impl Holding {
    /// As an earlier process left it, whose numbers are all known: only what it held a lease
    /// for is not leased any more.
    pub fn resumed(slices: impl IntoIterator<Item = Kept>) -> Self {
        let mut parts: Vec<Part> = slices.into_iter().map(Part::resumed).collect();
        parts.sort_by_key(|part| part.epoch);
        Self {
            present: parts.pop(),
            over: parts,
            has_asked: true,
            ..Self::default()
        }
    }

    /// Sets an amount aside; of which slice.
    ///
    /// # Errors
    /// [`Stop`]; nothing was done.
    pub fn reserve(&mut self, amount: Amount, now: Duration) -> Result<u64, Stop> {
        let epoch = self.check_reserve(amount, now)?;
        if let Some(part) = &mut self.present
            && part.ledger.reserve(amount).is_ok()
        {
            self.rate.add(amount, now);
        }
        Ok(epoch)
    }

    /// Whether an amount can be set aside, and of which slice.
    ///
    /// # Errors
    /// As [`Holding::reserve`].
    pub fn check_reserve(&self, amount: Amount, now: Duration) -> Result<u64, Stop> {
        let part = self.present.as_ref().ok_or(Stop::None)?;
        if part.lease_ends <= now {
            return Err(Stop::Lease);
        }
        match part.ledger.check_reserve(amount) {
            Ok(()) => Ok(part.epoch),
            Err(Short::Of(free)) => Err(Stop::Short(free)),
            Err(Short::Mark(used)) => Err(Stop::Write(part.row_for(used))),
        }
    }

    /// What was set aside of a slice has come to this; what it was over by.
    ///
    /// # Errors
    /// What has to be on disk first; nothing was done.
    pub fn settle(&mut self, epoch: u64, reserved: Amount, spent: Amount) -> Result<Amount, Row> {
        let Some(part) = self.part(epoch) else {
            return Ok(0);
        };
        let before = part.ledger.excess();
        let settled = part.ledger.settle(reserved, spent);
        settled.map_err(|used| part.row_for(used))?;
        Ok(part.ledger.excess().saturating_sub(before))
    }

    /// What settling would come to: what it would be over by.
    ///
    /// # Errors
    /// As [`Holding::settle`].
    pub fn check_settle(&self, epoch: u64, reserved: Amount, spent: Amount) -> Result<Amount, Row> {
        let mut part = self.parts().find(|part| part.epoch == epoch).copied();
        let Some(part) = &mut part else {
            return Ok(0);
        };
        let checked = part.ledger.check_settle(reserved, spent);
        checked.map_err(|used| part.row_for(used))?;
        let before = part.ledger.excess();
        let _ = part.ledger.settle(reserved, spent);
        Ok(part.ledger.excess().saturating_sub(before))
    }

    /// Notes spending for which nothing was set aside, for the rate.
    pub fn spent(&mut self, amount: Amount, now: Duration) {
        self.rate.add(amount, now);
    }

    /// What was set aside of a slice is free again.
    pub fn release(&mut self, epoch: u64, reserved: Amount) {
        if let Some(part) = self.part(epoch) {
            part.ledger.release(reserved);
        }
    }

    /// A row is on disk; one from before more was given back says nothing any more.
    pub fn wrote(&mut self, row: Row) {
        if let Some(part) = self.part(row.epoch)
            && part.ledger.report().returned == row.returned
        {
            let mark = part.ledger.mark().max(row.mark);
            part.ledger.set_mark(mark);
        }
    }

    /// What is to be on disk soon, so that callers need not wait for it: less than half a
    /// chunk is left below the mark.
    pub fn ahead(&self) -> Option<Row> {
        let part = self.present.as_ref()?;
        let ledger = &part.ledger;
        let is_low = ledger.below_mark() < part.chunk.div_ceil(2);
        (is_low && ledger.mark() < ledger.most()).then(|| part.row_for(ledger.used()))
    }

    /// What callers wait for, in all.
    pub fn wait(&mut self, needed: Amount) {
        self.needed = needed;
    }

    /// The slice that may be spent from.
    pub fn leased(&self, now: Duration) -> Option<u64> {
        let present = self.present.filter(|part| part.lease_ends > now);
        present.map(|part| part.epoch)
    }

    /// What can be set aside now.
    pub fn free(&self) -> Amount {
        self.present.map_or(0, |part| part.ledger.free())
    }

    /// What was spent beyond what there was, of the slice that is spent from.
    pub fn overdraft(&self) -> Amount {
        self.present.map_or(0, |part| part.ledger.overdraft())
    }

    /// The slice that is spent from, leased or not.
    pub fn present(&self) -> Option<Kept> {
        self.present.map(|part| part.kept())
    }

    /// Until when it may be spent from, since boot.
    pub fn lease_ends(&self) -> Duration {
        self.present.map_or(Duration::ZERO, |part| part.lease_ends)
    }

    /// The slice that spending is counted in which nothing was set aside for: the one that is
    /// spent from, else the last that was.
    pub fn latest(&self) -> Option<u64> {
        let last = self.parts().max_by_key(|part| part.epoch);
        last.map(|part| part.epoch)
    }

    /// Whether there is a slice, or may be one of which nothing was heard.
    pub fn may_hold(&self) -> bool {
        self.has_asked || self.latest().is_some()
    }

    /// All that is known of its slices.
    pub fn kept(&self) -> impl Iterator<Item = Kept> {
        self.parts().map(Part::kept)
    }

    /// Ends the spending: all that is free is given back, and nothing is set aside any more.
    /// What has to be on disk before it is told.
    pub fn end(&mut self) -> Option<Row> {
        self.needed = 0;
        let part = self.present.as_mut()?;
        part.lease_ends = Duration::ZERO;
        let given = part.ledger.give_back(Amount::MAX, 0);
        (given > 0).then(|| part.row())
    }

    /// What is to be told now: each slice, and where there is none but something is wanted,
    /// that.
    pub fn told(&mut self, now: Duration) -> Vec<Told> {
        let free = self.free();
        let wanted = self.rate.amount(AHEAD, now).saturating_sub(free);
        let needed = self.needed.saturating_sub(free);
        let over = self.over.iter().map(|part| Told {
            epoch: part.epoch,
            report: part.ledger.report(),
            wanted: 0,
            needed: 0,
            ends: true,
            window: part.window,
        });
        let present = self.present.map(|part| Told {
            epoch: part.epoch,
            report: part.ledger.report(),
            wanted,
            needed,
            ends: false,
            window: part.window,
        });
        let none = Told {
            epoch: 0,
            report: Report::default(),
            wanted,
            needed,
            ends: false,
            window: None,
        };
        self.has_asked |= present.is_none() && (wanted > 0 || needed > 0);
        // until it is answered: what was given meanwhile would be nobody's
        let present = present.or_else(|| self.has_asked.then_some(none));
        over.chain(present).collect()
    }

    /// What is told of no slice, where there may be one that was given and not heard of.
    pub fn asked(&mut self) -> Told {
        self.has_asked = true;
        Told {
            epoch: 0,
            report: Report::default(),
            wanted: 0,
            needed: 0,
            ends: false,
            window: None,
        }
    }

    /// Hears an answer to what was told then. What has to be on disk before anything else
    /// is told.
    pub fn hear(&mut self, told: &Told, answer: &Answer, asked_at: Duration) -> Option<Row> {
        if told.epoch == 0 {
            return self.begin(answer, asked_at);
        }
        // who said that callers wait here, and is asked all the same, has too little for them
        let keep = if told.needed > 0 { 0 } else { self.needed };
        let is_present = self.present.is_some_and(|part| part.epoch == told.epoch);
        let part = self.part(told.epoch)?;
        part.hear(answer);
        let ends = asked_at.saturating_add(answer.lease);
        part.lease_ends = if answer.lease.is_zero() {
            Duration::ZERO
        } else {
            part.lease_ends.max(ends)
        };
        // an answer that is late asks for what was given back already
        let is_new = part.ledger.report().returned == told.report.returned;
        let most = match (answer.is_over, is_new) {
            (true, _) => Amount::MAX,
            (false, true) => answer.give_back,
            (false, false) => 0,
        };
        let keep = if answer.is_over { 0 } else { keep };
        let given = part.ledger.give_back(most, keep);
        let row = (given > 0).then(|| part.row());
        if answer.is_over && is_present {
            self.over.extend(self.present.take());
        }
        // nothing is left to be told, and all was counted
        self.over.retain(|part| {
            part.epoch != told.epoch
                || !answer.is_over
                || part.ledger.used() > answer.reported
                || part.ledger.report().returned > told.report.returned
        });
        row
    }

    /// What a slice has come to where an answer has ended it, and nothing is left to be told.
    pub fn past(&self, told: &Told, answer: &Answer, ended_at: u64) -> Option<Past> {
        let is_known = self.parts().any(|part| part.epoch == told.epoch);
        if told.epoch == 0 || is_known {
            return None;
        }
        let past = Past {
            granted: told.report.granted.max(answer.granted),
            returned: told.report.returned.max(answer.returned),
            spent: told.report.spent.max(answer.reported),
            window: told.window,
            ended_at,
        };
        // of what was given back nothing can be missing
        (past.spent > 0).then_some(past)
    }

    fn begin(&mut self, answer: &Answer, asked_at: Duration) -> Option<Row> {
        self.has_asked = false;
        if answer.epoch == 0 || self.parts().any(|part| part.epoch == answer.epoch) {
            return None;
        }
        let mut part = Part {
            epoch: answer.epoch,
            ledger: Ledger::default(),
            lease_ends: asked_at.saturating_add(answer.lease),
            chunk: 0,
            // what is over is of another one
            window: answer.window.filter(|_| !answer.is_over),
        };
        part.hear(answer);
        if answer.is_over || self.present.is_some() {
            // it was given to this machine once, which knows nothing of it
            part.ledger.give_back(Amount::MAX, 0);
            self.over.push(part);
        } else {
            self.present = Some(part);
        }
        Some(part.row())
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.over.iter().chain(&self.present)
    }

    fn part(&mut self, epoch: u64) -> Option<&mut Part> {
        let all = self.present.iter_mut().chain(&mut self.over);
        let mut all = all.filter(|part| part.epoch == epoch);
        all.next()
    }
}
