//! One task: what this machine holds of its budget, and who has set what aside of it.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{ids::TaskId, reason::Reason};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    holding::{Holding, Kept, Row},
    journal::Journal,
    ledger::Amount,
    memory::Past,
    pen::{self, Pen},
    record::Record,
    replay::ReplayedTask,
    requests::{Done, Requests},
    reservations::Reservations,
    terms::Terms,
};

/// Between two tellings of mere spending.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// How many reservations are released in one go.
const AT_ONCE: usize = 1_000;

/// One task.
#[derive(Debug)]
pub(super) struct Purse {
    pub(super) task: TaskId,
    state: Mutex<State>,
    /// Something was heard of it, or was not.
    pub(super) told: Notify,
}

/// What is known of one task.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) holding: Holding,
    pub(super) pen: Pen,
    pub(super) reservations: Reservations,
    pub(super) requests: Requests,
    /// `None`: nothing was told since this process began.
    pub(super) terms: Option<Terms>,
    /// What is counted; empty: not known.
    pub(super) unit: String,
    /// It was taken out, since nobody asked for it.
    pub(super) is_gone: bool,
    /// Why nothing of such a budget is to be had here, as far as was told.
    pub(super) missing: Option<Reason>,
    /// Something is known to have happened since it was told: what is heard is new from this
    /// asking on.
    pub(super) stale: u64,
    /// What callers wait for.
    pub(super) waiting: Amount,
    pub(super) asking: Asking,
    /// It is about to be written how far it may be used.
    pub(super) is_raising: bool,
    /// This has to be on disk before anything else is told.
    pub(super) unsynced: u64,
    pub(super) shown: Shown,
}

/// When it is told.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// Since boot; `None`: there is nothing to tell.
    due: Option<Duration>,
    /// Since boot: likewise, as long as callers wait.
    rush: Option<Duration>,
    /// Since boot: when it was told last.
    pub(super) asked_at: Duration,
    /// Spent or set aside since.
    pub(super) has_changed: bool,
    /// How often it was told …
    pub(super) asked: u64,
    /// … and which of those was answered last.
    pub(super) answered: u64,
    /// It is told alone, since it may be what the control plane refuses.
    pub(super) is_suspect: bool,
}

/// When those that watch were told.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Since boot.
    pub(super) at: Duration,
    /// Something has changed since.
    pub(super) has_changed: bool,
}

impl Asking {
    /// Since boot: when it is told; `None`: there is nothing to tell.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due.into_iter().chain(self.rush).min()
    }

    /// It is told now.
    pub(super) fn begin(&mut self) {
        (self.due, self.rush, self.has_changed) = (None, None, false);
    }

    /// It is told later.
    pub(super) fn put_off(&mut self, due: Duration) {
        (self.due, self.rush) = (Some(due), None);
    }
}

impl Purse {
    /// Of which nothing is known.
    pub(super) fn new(task: TaskId, now: Duration) -> Self {
        let mut state = State::default();
        state.asking.asked_at = now;
        Self {
            task,
            state: Mutex::new(state),
            told: Notify::new(),
        }
    }

    /// As the journal says.
    pub(super) fn replayed(number: u32, replayed: ReplayedTask, now: Duration) -> Self {
        let state = State {
            holding: Holding::resumed(replayed.slices()),
            pen: Pen::of(number),
            reservations: replayed.reservations,
            requests: replayed.requests,
            unit: replayed.unit,
            asking: Asking {
                due: Some(now),
                asked_at: now,
                ..Asking::default()
            },
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            ..Self::new(replayed.task, now)
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of it where the journal is written anew.
    pub(super) fn copy(&self, journal: &Journal) -> io::Result<()> {
        let mut state = self.state();
        if !state.pen.is_named {
            return Ok(());
        }
        let mut lines = Vec::new();
        state.dump(&self.task, journal, &mut lines);
        journal.copy(&lines, &mut state.pen)
    }
}

impl State {
    /// Spending, or something that is set aside, is to be told; whether sooner than was
    /// planned.
    pub(super) fn touch(&mut self) -> bool {
        let asking = &mut self.asking;
        if std::mem::replace(&mut asking.has_changed, true) {
            return false;
        }
        self.tell_by(self.asking.asked_at.saturating_add(EVERY))
    }

    /// It is told by then; whether that is sooner than was planned.
    pub(super) fn tell_by(&mut self, due: Duration) -> bool {
        let is_sooner = self.asking.due.is_none_or(|planned| due < planned);
        if is_sooner {
            self.asking.due = Some(due);
        }
        is_sooner
    }

    /// It is told by then if callers still wait.
    pub(super) fn rush(&mut self, due: Duration) {
        self.asking.rush = (self.waiting > 0).then_some(due);
    }

    /// What is left: here, and what the control plane told that it can still give.
    pub(super) fn remaining(&self) -> Amount {
        let elsewhere = self.terms.as_ref();
        let elsewhere = elsewhere.map_or(0, |terms| terms.account.remaining);
        // what was spent beyond the slice is covered from there
        let elsewhere = elsewhere.saturating_sub(self.holding.overdraft());
        self.holding.free().saturating_add(elsewhere)
    }

    /// What was spent of the budget beyond all that there is, as far as it is known here.
    pub(super) fn overdrawn(&self) -> Amount {
        let (left, overdrawn) = self.terms.as_ref().map_or((0, 0), |terms| {
            (terms.account.remaining, terms.account.overdraft)
        });
        // what remains covers that of this machine
        overdrawn.max(self.holding.overdraft().saturating_sub(left))
    }

    /// Releases what was not settled in time. Whether there was something.
    pub(super) fn release_expired(
        &mut self,
        task: &TaskId,
        journal: &Journal,
        now: Duration,
    ) -> io::Result<bool> {
        let expired = self.reservations.expired(now);
        let expired: Vec<Uuid> = expired.take(AT_ONCE).collect();
        if expired.is_empty() {
            return Ok(false);
        }
        let t = self.pen.number(journal);
        let records = expired.iter().map(|id| Record::Release { t, id: *id });
        self.pen.write(journal, (task, &self.unit), records)?;
        for id in expired {
            if let Some((epoch, amount)) = self.reservations.end(id, false) {
                self.holding.release(epoch, amount);
            }
        }
        Ok(true)
    }

    /// Writes how far a slice may be used, which counts once it is on disk. Where the
    /// journal ends then; `None`: more was given back meanwhile, so that it says nothing.
    pub(super) fn write_row(
        &mut self,
        task: &TaskId,
        journal: &Journal,
        row: Row,
    ) -> io::Result<Option<u64>> {
        let slice = self.holding.kept().find(|slice| slice.epoch == row.epoch);
        let Some(slice) = slice.filter(|slice| slice.report.returned == row.returned) else {
            return Ok(None);
        };
        let mark = slice.mark.max(row.mark);
        let record = sums(self.pen.number(journal), Kept { mark, ..slice });
        let written = self.pen.write(journal, (task, &self.unit), [record])?;
        Ok(Some(written))
    }

    /// Replaces what is held by what came of an answer, once that is written. Where the
    /// journal ends then; `ahead` is written with it, and counts once it is on disk; `past`:
    /// what the slice has come to that is held no more.
    pub(super) fn replace(
        &mut self,
        task: &TaskId,
        journal: &Journal,
        next: Holding,
        ahead: Option<Row>,
        past: Option<Past>,
    ) -> io::Result<Option<u64>> {
        let t = self.pen.number(journal);
        let before: Vec<Kept> = self.holding.kept().collect();
        let mut records = Vec::new();
        for slice in next.kept() {
            let mark = ahead
                .filter(|row| row.epoch == slice.epoch)
                .map_or(slice.mark, |row| row.mark.max(slice.mark));
            let slice = Kept { mark, ..slice };
            if !before.contains(&slice) {
                records.push(sums(t, slice));
            }
        }
        for Kept { epoch, .. } in before {
            if next.kept().all(|slice| slice.epoch != epoch) {
                records.extend(past.map(|past| remembered(task, epoch, past)));
                records.push(Record::Over { t, epoch });
            }
        }
        let written = if records.is_empty() {
            None
        } else {
            Some(self.pen.write(journal, (task, &self.unit), records)?)
        };
        self.holding = next;
        Ok(written)
    }

    /// Nothing is held of it, set aside or waited for.
    pub(super) fn is_idle(&self) -> bool {
        let mut open = self.reservations.all_open();
        self.waiting == 0 && open.next().is_none() && self.holding.latest().is_none()
    }

    /// All that is known, in as few lines as can be.
    fn dump(&mut self, task: &TaskId, journal: &Journal, lines: &mut Vec<u8>) {
        let t = self.pen.number(journal);
        pen::name(t, task, &self.unit).write(lines);
        for slice in self.holding.kept() {
            sums(t, slice).write(lines);
        }
        for (id, ended) in self.reservations.all_ended() {
            let record = Record::Ended {
                t,
                id: *id,
                by: ended.by.as_str().into(),
                settled: ended.is_settled,
            };
            record.write(lines);
        }
        for (by, req, done) in self.requests.iter() {
            let (by, req) = (by.into(), req.into());
            let record = match done {
                Done::Reserved { id, amount: n } => Record::Reserved { t, by, req, id, n },
                Done::Spent {
                    amount: n,
                    overdraft: over,
                } => Record::Spent {
                    t,
                    by,
                    req,
                    n,
                    over,
                },
            };
            record.write(lines);
        }
        for (id, open) in self.reservations.all_open() {
            let record = Record::Reserve {
                t,
                id: *id,
                epoch: open.epoch,
                n: open.amount,
                until: millis(open.until),
                by: open.by.as_str().into(),
                req: None,
            };
            record.write(lines);
        }
    }
}

/// The line with the sums of a slice.
fn sums<'a>(t: u32, slice: Kept) -> Record<'a> {
    Record::Slice {
        t,
        epoch: slice.epoch,
        granted: slice.report.granted,
        returned: slice.report.returned,
        spent: slice.report.spent,
        mark: slice.mark,
        w: slice.window,
    }
}

/// The line with what a slice has come to.
pub(super) fn remembered(task: &TaskId, epoch: u64, past: Past) -> Record<'_> {
    Record::Past {
        task: task.as_str().into(),
        epoch,
        granted: past.granted,
        returned: past.returned,
        spent: past.spent,
        w: past.window,
        at: past.ended_at,
    }
}

/// Since boot, as the journal has it.
pub(super) fn millis(since_boot: Duration) -> u64 {
    u64::try_from(since_boot.as_millis()).unwrap_or(u64::MAX)
}
