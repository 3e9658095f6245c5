//! Calls that are sent together: always the same ones under one number.

use std::{collections::BTreeMap, sync::Arc};

use authguardian_proto::{
    audit::v1::{ReportCallsRequest, ReportedCall},
    zone::Zone,
};
use uuid::Uuid;

use super::record::{FORMAT, Head, Kind, Record};
use crate::tail::{Damage, read_lines};

/// The calls of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub(super) head: Head,
    /// The first has number 1.
    pub(super) kinds: Vec<Kind>,
    /// By kind and second since boot.
    pub(super) counts: BTreeMap<(u32, u64), u64>,
}

/// What the clocks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Now {
    /// Which boot of the machine this is.
    pub(super) boot: Arc<str>,
    /// Seconds since then.
    pub(super) second: u64,
    /// Seconds that the wall clock is ahead of them.
    pub(super) offset: i64,
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    /// What could be read; `None`: not even its first line is whole.
    pub(super) batch: Option<Batch>,
    /// What nobody wrote; all from there on is not read.
    pub(super) damage: Option<Damage>,
}

impl Batch {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            kinds: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Its place in the journal.
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }

    /// The journal that it is of.
    pub fn journal_id(&self) -> Uuid {
        self.head.id
    }

    /// How many different calls, each with a count.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is nothing to be told.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// As it is sent now.
    pub(super) fn message(&self, now: &Now) -> ReportCallsRequest {
        let calls = self.counts.iter().filter_map(|((number, second), count)| {
            let kind = self.kinds.get(index(*number)?)?;
            Some(reported(kind, *count, self.age(*second, now)))
        });
        ReportCallsRequest {
            request_id: String::new(),
            calls: calls.collect(),
            journal_id: self.head.id.to_string(),
            sequence: self.head.sequence,
        }
    }

    /// How long ago a second was. Since this boot that is certain; over another one, it is
    /// as good as the wall clock.
    fn age(&self, second: u64, now: &Now) -> u64 {
        if *self.head.boot == *now.boot {
            return now.second.saturating_sub(second);
        }
        let wall = |second: u64, offset| i128::from(second) + i128::from(offset);
        let age = wall(now.second, now.offset) - wall(second, self.head.offset);
        u64::try_from(age).unwrap_or(0)
    }

    /// The lines that say as much.
    pub(super) fn lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        Record::Journal(self.head.clone()).write(&mut lines);
        for (kind, number) in self.kinds.iter().zip(1..) {
            Record::Call(number, kind.clone()).write(&mut lines);
        }
        for ((kind, second), count) in &self.counts {
            Record::Add(*kind, *second, *count).write(&mut lines);
        }
        lines
    }

    /// Reads a file. The last line of a process that was killed may not be whole.
    pub(super) fn read(content: &[u8]) -> Replayed {
        let mut replayed = Replayed::default();
        let read = read_lines(content, |_, text| {
            let record = Record::read(text).map_err(|error| error.to_string())?;
            replayed.take(record)
        });
        replayed.damage = read.err();
        replayed
    }
}

impl Replayed {
    fn take(&mut self, record: Record) -> Result<(), String> {
        let Some(batch) = &mut self.batch else {
            let Record::Journal(head) = record else {
                return Err("expected `journal` first".to_owned());
            };
            if head.format != FORMAT {
                return Err(format!("expected format {FORMAT}, found {}", head.format));
            }
            self.batch = Some(Batch::new(head));
            return Ok(());
        };
        match record {
            Record::Journal(_) => return Err("expected `journal` first alone".to_owned()),
            Record::Offset(offset) => batch.head.offset = offset,
            Record::Call(number, kind) => {
                if index(number) != Some(batch.kinds.len()) {
                    return Err("expected calls to be numbered from 1".to_owned());
                }
                batch.kinds.push(kind);
            }
            Record::Add(number, second, more) => {
                if index(number).is_none_or(|index| index >= batch.kinds.len()) {
                    return Err("expected a call that was numbered before".to_owned());
                }
                let count = batch.counts.entry((number, second)).or_default();
                *count = count.saturating_add(more);
            }
        }
        Ok(())
    }
}

/// Where the kind of a number stands.
fn index(number: u32) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

fn reported(kind: &Kind, count: u64, age_seconds: u64) -> ReportedCall {
    let kind = kind.clone();
    ReportedCall {
        action: kind.action,
        outcome: kind.outcome,
        reason: kind.reason,
        api_key_id: kind.key,
        claimed_api_key_id: kind.claimed,
        agent_id: kind.agent,
        zone: Zone::parse(&kind.zone).map_or(0, |zone| zone.to_proto().into()),
        client_address: kind.client,
        count,
        age_seconds,
    }
}
