//! What the journal says, line by line.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::ids::{AgentId, TaskId};

use super::{
    holding::Kept,
    ledger::Report,
    memory::{Memory, Past},
    record::{FORMAT, Record},
    requests::{Done, Requests},
    reservations::{Ended, Open, Reservations},
};
use crate::tail::{Damage, read_lines};

/// All that a journal says.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// `None`: there is nothing in it.
    pub(super) id: Option<u64>,
    /// Whether the last that wrote it did so since this boot.
    pub(super) is_of_boot: bool,
    /// Bytes of whole lines.
    pub(super) len: u64,
    /// By number.
    pub(super) tasks: BTreeMap<u32, ReplayedTask>,
    /// Slices that are over.
    pub(super) memory: Memory,
}

/// What it says of one task.
#[derive(Debug)]
pub(super) struct ReplayedTask {
    pub(super) task: TaskId,
    pub(super) unit: String,
    /// By epoch; what is set aside is not counted.
    slices: BTreeMap<u64, Kept>,
    pub(super) reservations: Reservations,
    pub(super) requests: Requests,
}

impl Replayed {
    /// Reads a journal. `boot`: which boot of the machine this is; after another one, what
    /// was not settled counts as spent. The last line of a process that was killed may not
    /// be whole: then nobody was told of it.
    pub(super) fn read(content: &[u8], boot: &str) -> Result<Self, Damage> {
        let mut all = Self::default();
        let mut last_boot = None;
        let len = read_lines(content, |at, text| {
            let record = Record::read(text).map_err(|error| error.to_string())?;
            match (record, at) {
                (Record::Journal { id, format }, 0) => {
                    if format != FORMAT {
                        return Err(format!("expected format {FORMAT}, found {format}"));
                    }
                    all.id = Some(id);
                }
                (_, 0) | (Record::Journal { .. }, _) => {
                    return Err("expected `journal` as the first line alone".into());
                }
                (Record::Boot(boot), _) => {
                    if last_boot.as_ref().is_some_and(|last| *last != boot) {
                        all.lose_what_was_open();
                    }
                    last_boot = Some(boot);
                }
                (Record::Since(since), _) => all.memory.begin(since),
                (record, _) => all.take(record)?,
            }
            Ok(())
        })?;
        all.len = len;
        all.is_of_boot = last_boot.is_some_and(|last| last == boot);
        if !all.is_of_boot {
            all.lose_what_was_open();
        }
        Ok(all)
    }

    /// After a loss of power: all up to the marks counts as spent.
    fn lose_what_was_open(&mut self) {
        for task in self.tasks.values_mut() {
            task.reservations.forget_open();
            for slice in task.slices.values_mut() {
                slice.report.spent = slice.report.spent.max(slice.mark);
            }
        }
    }

    fn take(&mut self, record: Record<'_>) -> Result<(), &'static str> {
        if let Record::Task { t, name, unit } = record {
            let task = name.parse().map_err(|_| "expected the name of a task")?;
            let task = ReplayedTask {
                task,
                unit: unit.into_owned(),
                slices: BTreeMap::new(),
                reservations: Reservations::default(),
                requests: Requests::default(),
            };
            let is_new = t > 0 && self.tasks.insert(t, task).is_none();
            return is_new.then_some(()).ok_or("expected a task once");
        }
        if let Record::Past {
            task,
            epoch,
            granted,
            returned,
            spent,
            w: window,
            at: ended_at,
        } = record
        {
            let task = task.parse().map_err(|_| "expected the name of a task")?;
            let past = Past {
                granted,
                returned,
                spent,
                window,
                ended_at,
            };
            self.memory.insert(task, epoch, past);
            return Ok(());
        }
        let number = number(&record);
        let task = number.and_then(|number| self.tasks.get_mut(&number));
        task.ok_or("expected a task that was named before")?
            .take(record)
    }
}

impl ReplayedTask {
    /// Its slices, with what is set aside.
    pub(super) fn slices(&self) -> Vec<Kept> {
        let mut slices = self.slices.clone();
        for (_, open) in self.reservations.all_open() {
            if let Some(slice) = slices.get_mut(&open.epoch) {
                let reserved = &mut slice.report.reserved;
                *reserved = reserved.saturating_add(open.amount);
            }
        }
        slices.into_values().collect()
    }

    fn take(&mut self, record: Record<'_>) -> Result<(), &'static str> {
        match record {
            Record::Slice {
                epoch,
                granted,
                returned,
                spent,
                mark,
                w: window,
                ..
            } => self.take_slice(Kept {
                epoch,
                report: Report {
                    granted,
                    returned,
                    spent,
                    reserved: 0,
                },
                mark,
                window,
            }),
            Record::Over { epoch, .. } => {
                self.slices.remove(&epoch);
            }
            Record::Reserve {
                id,
                epoch,
                n: amount,
                until,
                by,
                req,
                ..
            } => {
                if let Some(req) = req {
                    let done = Done::Reserved { id, amount };
                    self.requests.insert(&by, &req, done);
                }
                let open = Open {
                    by: agent(&by)?,
                    epoch,
                    amount,
                    until: Duration::from_millis(until),
                };
                self.reservations.insert(id, open);
            }
            Record::Settle { id, n, .. } => {
                if let Some((epoch, _)) = self.reservations.end(id, true) {
                    self.spend(epoch, n);
                }
            }
            Record::Release { id, .. } => {
                self.reservations.end(id, false);
            }
            Record::Spend {
                epoch,
                n: amount,
                over: overdraft,
                by,
                req,
                ..
            } => {
                self.spend(epoch, amount);
                let done = Done::Spent { amount, overdraft };
                self.requests.insert(&by, &req, done);
            }
            Record::Ended {
                id, by, settled, ..
            } => {
                let ended = Ended {
                    by: agent(&by)?,
                    is_settled: settled,
                };
                self.reservations.insert_ended(id, ended);
            }
            Record::Reserved { by, req, id, n, .. } => {
                let done = Done::Reserved { id, amount: n };
                self.requests.insert(&by, &req, done);
            }
            Record::Spent {
                by, req, n, over, ..
            } => {
                let done = Done::Spent {
                    amount: n,
                    overdraft: over,
                };
                self.requests.insert(&by, &req, done);
            }
            Record::Journal { .. }
            | Record::Boot(_)
            | Record::Task { .. }
            | Record::Past { .. }
            | Record::Since(_) => {}
        }
        Ok(())
    }

    /// Marks only grow, unless more was given back.
    fn take_slice(&mut self, mut said: Kept) {
        if let Some(known) = self.slices.get(&said.epoch)
            && known.report.returned == said.report.returned
        {
            said.mark = said.mark.max(known.mark);
        }
        self.slices.insert(said.epoch, said);
    }

    fn spend(&mut self, epoch: u64, amount: u64) {
        if let Some(slice) = self.slices.get_mut(&epoch) {
            slice.report.spent = slice.report.spent.saturating_add(amount);
        }
    }
}

/// Of which task a line tells.
fn number(record: &Record<'_>) -> Option<u32> {
    match *record {
        Record::Journal { .. } | Record::Boot(_) | Record::Past { .. } | Record::Since(_) => None,
        Record::Task { t, .. }
        | Record::Slice { t, .. }
        | Record::Over { t, .. }
        | Record::Reserve { t, .. }
        | Record::Settle { t, .. }
        | Record::Release { t, .. }
        | Record::Spend { t, .. }
        | Record::Ended { t, .. }
        | Record::Reserved { t, .. }
        | Record::Spent { t, .. } => Some(t),
    }
}

fn agent(text: &str) -> Result<AgentId, &'static str> {
    text.parse().map_err(|_| "expected the name of an agent")
}
