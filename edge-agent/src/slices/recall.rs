//! Telling all that this machine remembers, after the control plane's database was restored
//! from a backup: every slice, and those that are over with what they came to.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    budgets::v1::{self as pb, SliceAnswer, SliceReport},
    ids::TaskId,
    reason::Reason,
};
use prost_types::Timestamp;

use super::{
    Slices,
    exchange::{AT_ONCE, Asked, Turn},
    memory::Past,
    purse::Purse,
};

/// Slices that were over so long before what was restored are told all the same: clocks
/// differ. Milliseconds.
const MARGIN: u64 = 60 * 60 * 1000;

/// What is still to be told.
#[derive(Debug)]
pub(super) struct Recall {
    asked: pb::Recall,
    purses: Vec<Arc<Purse>>,
    past: Vec<(TaskId, u64, Past)>,
    /// Something was not taken.
    is_refused: bool,
}

/// What one exchange tells of it.
#[derive(Debug, Default)]
pub(super) struct Telling {
    pub(super) asked: Vec<Asked>,
    pub(super) past: Vec<SliceReport>,
    /// All was told before.
    pub(super) recalled: Option<Timestamp>,
}

impl Slices {
    /// Whatever is known here is told, as if this process began: the control plane may be
    /// another.
    pub fn tell_all(&self) {
        self.tells_all
            .store(true, std::sync::atomic::Ordering::Release);
        self.wanted.notify_one();
    }

    /// What is told next of all that is remembered.
    pub(super) fn tell_past(&self, recall: &mut Recall, now: Duration) -> Telling {
        let mut telling = Telling::default();
        let mut waiting = Vec::new();
        while let Some(purse) = recall.purses.pop() {
            let mut state = purse.state();
            if state.is_gone {
                continue;
            }
            if state.asking.is_suspect {
                recall.is_refused = true;
                continue;
            }
            if state.unsynced > self.journal.synced() {
                self.chores.notify_one();
                waiting.push(purse.clone());
                continue;
            }
            let told = state.told(now);
            if !telling.asked.is_empty() && telling.asked.len() + told.len() > AT_ONCE {
                state.asking.put_off(now);
                waiting.push(purse.clone());
                break;
            }
            let count = state.asking.asked;
            telling.asked.extend(told.into_iter().map(|told| Asked {
                purse: purse.clone(),
                told,
                count,
            }));
        }
        recall.purses.extend(waiting);
        let room = AT_ONCE.saturating_sub(telling.asked.len());
        let rest = recall.past.split_off(recall.past.len().min(room));
        let now = std::mem::replace(&mut recall.past, rest);
        telling.past = now.iter().map(report).collect();
        let is_over = telling.asked.is_empty() && telling.past.is_empty();
        if is_over && recall.purses.is_empty() && !recall.is_refused {
            telling.recalled = Some(recall.asked.held_since.unwrap_or_default());
        }
        telling
    }

    /// Begins to tell all that is remembered, where that is asked for and was not told.
    pub(super) fn recall(&self, turn: &mut Turn, asked: Option<pb::Recall>) {
        let Some(asked) = asked else {
            return;
        };
        let is_known = turn.recalled == asked.held_since;
        let is_underway = turn
            .recall
            .as_ref()
            .is_some_and(|recall| recall.asked.held_since == asked.held_since);
        if !is_known && !is_underway {
            tracing::info!(
                "the control plane's database was restored: all that is known here of budgets is told"
            );
            turn.recall = Some(self.begin_recall(asked));
            self.wanted.notify_one();
        }
    }

    /// All of it, from the beginning.
    pub(super) fn begin_recall(&self, asked: pb::Recall) -> Recall {
        let as_of = asked.as_of.as_ref().map_or(0, millis);
        Recall {
            asked,
            purses: self.purses.pin().values().cloned().collect(),
            past: self.memory().after(as_of.saturating_sub(MARGIN)),
            is_refused: false,
        }
    }

    /// Slices that the control plane has given as new, and that are over here: what they came
    /// to is told.
    pub(super) fn take_doubts(&self) -> Vec<SliceReport> {
        let doubts = std::mem::take(&mut *self.doubts());
        let memory = self.memory();
        let known = doubts
            .into_iter()
            .filter_map(|(task, epoch)| Some((memory.get(&task, epoch)?, task, epoch)));
        known
            .take(AT_ONCE)
            .map(|(past, task, epoch)| report(&(task, epoch, past)))
            .collect()
    }
}

impl Recall {
    /// What was asked for.
    pub(super) fn asked(&self) -> pb::Recall {
        self.asked
    }

    /// Hears what was answered to what was told.
    pub(super) fn hear(&mut self, answers: &[SliceAnswer]) {
        let refused = Reason::InvalidArgument.as_str();
        self.is_refused |= answers.iter().any(|answer| answer.reason == refused);
    }

    /// Whether something was not taken.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused
    }
}

/// A slice that is over, as it is told.
fn report((task, epoch, past): &(TaskId, u64, Past)) -> SliceReport {
    SliceReport {
        task_id: task.to_string(),
        epoch: *epoch,
        granted: past.granted,
        returned: past.returned,
        spent: past.spent,
        ends: true,
        window_begins: past.window.map(window),
        ..SliceReport::default()
    }
}

/// When a window began, as a message.
pub(super) fn window(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// Milliseconds since 1970.
pub(super) fn millis(at: &Timestamp) -> u64 {
    let seconds = u64::try_from(at.seconds).unwrap_or_default();
    let millis = u64::from(at.nanos.unsigned_abs()) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(millis)
}

/// As a message.
pub(super) fn timestamp(millis: u64) -> Timestamp {
    let nanos = i32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    Timestamp {
        seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
        nanos,
    }
}
