//! A machine's side of one budget: what it holds, what of that is on disk, who has set what
//! aside, and what was truly spent.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::ids::MachineId;
use edge_agent::slices::{Amount, Answer, Holding, Kept, Past, Report, Row, Stop, Told};
use time::OffsetDateTime;

use super::{Call, Reply, Violation, disk::Disk, truth::Truth};

/// A machine with one budget.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) journal: i64,
    pub(crate) holding: Holding,
    /// Slice and amount of each.
    pub(crate) reservations: Vec<(u64, Amount)>,
    /// By journal and slice: a database that was put back may give a number once more.
    pub(crate) truth: BTreeMap<(i64, u64), Truth>,
    /// The last call.
    pub(crate) calls: u64,
    /// The call whose reply is heard; 0: none.
    pub(crate) awaits: u64,
    disk: Disk,
    /// What counts once it is on disk.
    rows: Vec<Row>,
    /// Something has to be on disk before more is told.
    must_sync: bool,
    /// Slices that are over.
    past: BTreeMap<u64, Past>,
    /// Since when all of them are remembered.
    pub(crate) since: Option<Duration>,
    /// All that is remembered is to be told, since a hold; whether it was.
    recall: Option<(OffsetDateTime, bool)>,
    /// A slice was given anew that is over.
    doubts: bool,
}

impl Machine {
    pub(crate) fn new(id: MachineId) -> Self {
        Self {
            id,
            journal: 1,
            holding: Holding::default(),
            reservations: Vec::new(),
            truth: BTreeMap::new(),
            calls: 0,
            awaits: 0,
            disk: Disk::default(),
            rows: Vec::new(),
            must_sync: false,
            past: BTreeMap::new(),
            // each was heard before anything was given
            since: Some(Duration::ZERO),
            recall: None,
            doubts: false,
        }
    }

    /// Sets an amount aside, where that can be done at once; else it is written what is to
    /// be on disk first, or waited for more. Of which slice.
    pub(crate) fn reserve(&mut self, amount: Amount, now: Duration) -> Option<u64> {
        match self.holding.reserve(amount, now) {
            Ok(epoch) => {
                self.reservations.push((epoch, amount));
                self.holding.wait(0);
                self.note_use(epoch, 0);
                Some(epoch)
            }
            Err(Stop::Write(row)) => {
                self.note_use(row.epoch, amount);
                self.raise(row);
                None
            }
            Err(Stop::None | Stop::Lease | Stop::Short(_)) => {
                self.holding.wait(amount);
                None
            }
        }
    }

    /// One of the reservations has come to this.
    pub(crate) fn settle(&mut self, which: usize, spent: Amount) {
        let (epoch, amount) = self.reservations.swap_remove(which);
        while let Err(row) = self.holding.settle(epoch, amount, spent) {
            self.note_use(epoch, spent.saturating_sub(amount));
            self.raise(row);
            self.sync();
        }
        self.truth_of(epoch).settled += spent;
        self.note_use(epoch, 0);
    }

    /// One of them was not settled in time.
    pub(crate) fn release(&mut self, which: usize) {
        let (epoch, amount) = self.reservations.swap_remove(which);
        self.holding.release(epoch, amount);
    }

    /// All that was written comes to disk.
    pub(crate) fn sync(&mut self) {
        self.disk.sync();
        self.must_sync = false;
        for row in std::mem::take(&mut self.rows) {
            self.holding.wrote(row);
        }
    }

    /// How many lines are written that are not on disk yet.
    pub(crate) fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    /// What is told now; nothing before what was given back is on disk.
    pub(crate) fn call(&mut self, now: Duration) -> Call {
        if self.must_sync {
            self.sync();
        }
        self.calls += 1;
        self.awaits = self.calls;
        let mut told = self.holding.told(now);
        let tells_all = self
            .recall
            .filter(|(_, is_told)| !is_told)
            .map(|(since, _)| since);
        let before = told.len();
        if tells_all.is_some() || self.doubts {
            told.extend(self.told_past());
        }
        let past = told.len() - before;
        Call {
            machine: self.id,
            journal: self.journal,
            number: self.calls,
            at: now,
            told,
            past,
            tells_all,
            remembers_since: self.since,
            recalled: self
                .recall
                .filter(|(_, is_told)| *is_told)
                .map(|(since, _)| since),
        }
    }

    /// Slices that are over, as they are told.
    fn told_past(&self) -> Vec<Told> {
        let past = self.past.iter().map(|(epoch, past)| Told {
            epoch: *epoch,
            report: Report {
                granted: past.granted,
                returned: past.returned,
                spent: past.spent,
                reserved: 0,
            },
            wanted: 0,
            needed: 0,
            ends: true,
            window: past.window,
        });
        past.collect()
    }

    /// The last that is told by a process that ends: all that is free is given back.
    pub(crate) fn last_call(&mut self, now: Duration) -> Call {
        let before: Vec<Kept> = self.holding.kept().collect();
        self.must_sync |= self.holding.end().is_some();
        self.write(&before, None, None);
        let mut call = self.call(now);
        let past = call.told.split_off(call.told.len() - call.past);
        (call.past, call.tells_all, call.recalled) = (0, None, None);
        drop(past);
        call.told.retain(|told| told.epoch > 0);
        for told in &mut call.told {
            (told.wanted, told.needed, told.ends) = (0, 0, true);
        }
        call
    }

    /// Hears a reply, where it is to the last call of this process, and the first to it.
    pub(crate) fn hear(&mut self, reply: &Reply) -> Result<(), Violation> {
        if reply.call.number != self.awaits {
            return Ok(());
        }
        self.awaits = 0;
        self.since = self.since.or(Some(reply.at));
        self.hear_recall(reply);
        self.doubts &= reply.call.past == 0;
        let told = reply.call.told.len() - reply.call.past;
        for (told, answer) in reply.call.told[..told].iter().zip(&reply.answers) {
            if told.epoch == 0 && self.is_over(answer) {
                continue;
            }
            let before: Vec<Kept> = self.holding.kept().collect();
            let row = self.holding.hear(told, answer, reply.call.at);
            self.must_sync |= row.is_some();
            let ahead = self.holding.ahead();
            let past = self.holding.past(told, answer, 0);
            self.past.extend(past.map(|past| (told.epoch, past)));
            self.write(&before, ahead, past);
            self.rows.extend(ahead);
            self.note_declared(&before, answer);
        }
        self.check()
    }

    /// Whether a slice is given anew that is over: it is told, and not spent from.
    fn is_over(&mut self, answer: &Answer) -> bool {
        let past = self.past.get_mut(&answer.epoch);
        if let Some(past) = past {
            *past = past.given_anew(answer.granted);
            self.doubts = true;
            return true;
        }
        false
    }

    /// All that is remembered is told, and then that it was.
    fn hear_recall(&mut self, reply: &Reply) {
        if let Some((since, is_told)) = &mut self.recall {
            *is_told |= reply.call.tells_all == Some(*since);
        }
        match (self.recall, reply.recall) {
            (Some((since, _)), Some(asked)) if since == asked => {}
            (_, asked) => self.recall = asked.map(|since| (since, false)),
        }
    }

    /// The process is killed: the journal knows all that it knew, and is on disk before the
    /// next one begins.
    pub(crate) fn kill(&mut self) {
        self.disk.sync();
        let kept: Vec<Kept> = self
            .holding
            .kept()
            .map(|kept| self.disk.marked(kept))
            .collect();
        self.begin(kept);
    }

    /// An operator says that this much was spent of a slice of some journal.
    pub(crate) fn declare(&mut self, journal: i64, epoch: u64, spent: Amount) {
        self.truth.entry((journal, epoch)).or_default().declared = spent;
    }

    /// The power fails after so many of the lines that were not on disk yet have come there.
    pub(crate) fn lose_power(&mut self, after: usize) -> Result<(), Violation> {
        for (epoch, amount) in std::mem::take(&mut self.reservations) {
            self.truth_of(epoch).lost += amount;
        }
        self.disk.lose(after);
        self.begin(self.disk.read());
        let known: Vec<Kept> = self.holding.kept().collect();
        for Kept { epoch, report, .. } in known {
            self.truth_of(epoch).lose_power(&report)?;
        }
        Ok(())
    }

    /// The disk is lost, and the machine begins anew.
    pub(crate) fn destroy(&mut self) {
        for (epoch, amount) in std::mem::take(&mut self.reservations) {
            self.truth_of(epoch).lost += amount;
        }
        self.journal += 1;
        self.disk = Disk::default();
        self.since = None;
        self.begin(Vec::new());
    }

    /// As if all that has to be on disk were there.
    pub(crate) fn pass_over_disk(&mut self) {
        self.must_sync = false;
    }

    /// As if no mark were on disk.
    pub(crate) fn forget_marks(&mut self) {
        self.disk.forget_marks();
    }

    /// What is known of one of its slices.
    pub(crate) fn kept(&self, epoch: u64) -> Option<Kept> {
        self.holding.kept().find(|kept| kept.epoch == epoch)
    }

    /// What was spent is known, exactly but for what a loss of power has counted too much.
    pub(crate) fn check(&self) -> Result<(), Violation> {
        for kept in self.holding.kept() {
            let truth = self.truth.get(&(self.journal, kept.epoch)).copied();
            let truth = truth.unwrap_or_default();
            if kept.report.spent != truth.settled + truth.over {
                return Err(format!("{truth:?}, and is known as {kept:?}"));
            }
        }
        Ok(())
    }

    fn begin(&mut self, kept: Vec<Kept>) {
        self.holding = Holding::resumed(kept);
        self.awaits = 0;
        self.rows.clear();
        self.must_sync = false;
        (self.past, self.recall, self.doubts) = (self.disk.past(), None, false);
    }

    fn raise(&mut self, row: Row) {
        let slice = self.kept(row.epoch);
        if let Some(slice) = slice.filter(|slice| slice.report.returned == row.returned) {
            let mark = slice.mark.max(row.mark);
            self.disk.write(Kept { mark, ..slice });
            self.rows.push(row);
        }
    }

    fn write(&mut self, before: &[Kept], ahead: Option<Row>, past: Option<Past>) {
        let now: Vec<Kept> = self.holding.kept().collect();
        self.disk.replace(before, &now, ahead, past);
    }

    /// Of a slice of the present journal.
    fn truth_of(&mut self, epoch: u64) -> &mut Truth {
        self.truth.entry((self.journal, epoch)).or_default()
    }

    fn note_use(&mut self, epoch: u64, more: Amount) {
        if let Some(Kept { report, .. }) = self.kept(epoch) {
            let truth = self.truth_of(epoch);
            truth.use_up_to(report.spent + report.reserved + more);
        }
    }

    /// What an operator has declared counts, where it is more than this machine knew of.
    fn note_declared(&mut self, before: &[Kept], answer: &Answer) {
        let before = before.iter().find(|kept| kept.epoch == answer.epoch);
        let now = self.kept(answer.epoch);
        let (Some(before), Some(now)) = (before, now) else {
            return;
        };
        let truth = self.truth_of(answer.epoch);
        if answer.reported <= truth.declared {
            truth.over += now.report.spent - before.report.spent;
            truth.use_up_to(now.report.spent);
        }
    }
}
