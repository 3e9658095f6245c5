//! What the control plane answers for slices.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{budgets::v1::SliceAnswer, ids::TaskId, reason::Reason};

use super::{
    Slices,
    exchange::{Asked, PAUSE, SPACING},
    holding::{Answer, Row},
    purse::{EVERY, Purse, State},
    terms::Terms,
};

/// How often slices are told of that nobody may spend from.
const UNLEASED: Duration = Duration::from_secs(15);

/// What has to be on disk before the next exchange, and what counts then.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) up_to: u64,
    pub(super) rows: Vec<(Arc<Purse>, Row, u64)>,
    /// The control plane's time then, milliseconds since 1970; 0: not told.
    pub(super) time: u64,
}

impl Slices {
    /// Takes what was answered for one slice.
    pub(super) fn hear(
        &self,
        Asked { purse, told, count }: &Asked,
        message: SliceAnswer,
        asked_at: Duration,
        pending: &mut Pending,
    ) {
        let now = self.ambient.clock.since_boot();
        let mut state = purse.state();
        state.asking.is_suspect = false;
        let answer = answer(&message);
        if told.epoch == 0 && self.is_over_here(&purse.task, &answer) {
            state.learn(message, &answer, asked_at);
            state.asking.answered = state.asking.answered.max(*count);
            state.tell_by(now.saturating_add(PAUSE));
            return;
        }
        let again = Duration::from_millis(message.again_ms.into());
        let mut next = state.holding.clone();
        let row = next.hear(told, &answer, asked_at);
        let ahead = next.ahead();
        let past = next.past(told, &answer, pending.time);
        let is_news = state.learn(message, &answer, asked_at);
        let has_changed = next != state.holding;
        let had = state.holding.present().map(|slice| slice.epoch);
        let has_returned = row.is_some_and(|row| row.returned > told.report.returned);
        let written = state.replace(&purse.task, &self.journal, next, ahead, past);
        match written {
            Ok(written) => {
                if let Some(past) = past {
                    self.memory().insert(purse.task.clone(), told.epoch, past);
                }
                let written = written.unwrap_or_default();
                if row.is_some() {
                    state.unsynced = written;
                }
                if row.is_some() || ahead.is_some() {
                    pending.up_to = pending.up_to.max(written);
                }
                let generation = state.pen.generation;
                let rows = ahead.map(|row| (purse.clone(), row, generation));
                pending.rows.extend(rows);
            }
            Err(error) => {
                // as if the answer were lost
                tracing::warn!(%error, "the journal of budgets cannot be written");
                state.tell_by(now.saturating_add(PAUSE));
                return;
            }
        }
        state.asking.answered = state.asking.answered.max(*count);
        if has_returned || answer.is_over && told.epoch > 0 {
            state.tell_by(Duration::ZERO);
        } else if let Some(next) = state.next(&answer, again) {
            state.tell_by(asked_at.saturating_add(next));
        }
        state.rush(asked_at.saturating_add(SPACING));
        state.shown.has_changed |= has_changed;
        let has = state.holding.present().map(|slice| slice.epoch);
        if is_news || had != has {
            self.telling.tell(purse, &mut state, now);
        } else {
            self.telling.flush(purse, &mut state, now);
        }
    }

    /// Whether a slice that is given as a new one is over here: the control plane has forgotten
    /// that, and is told.
    fn is_over_here(&self, task: &TaskId, answer: &Answer) -> bool {
        if answer.epoch == 0 {
            return false;
        }
        let mut memory = self.memory();
        let Some(past) = memory.get(task, answer.epoch) else {
            return false;
        };
        memory.insert(task.clone(), answer.epoch, past.given_anew(answer.granted));
        drop(memory);
        tracing::warn!(%task, epoch = answer.epoch, "the control plane gives a slice anew that is over: its database must be older than that");
        self.doubts().insert((task.clone(), answer.epoch));
        self.wanted.notify_one();
        true
    }

    /// Takes a slice that the control plane has given, and this machine does not know of.
    pub(super) fn adopt(&self, message: SliceAnswer, asked_at: Duration, pending: &mut Pending) {
        let task = message.budget.as_ref().map(|budget| budget.task_id.parse());
        let Some(Ok(task)) = task else {
            return;
        };
        let Ok(purse) = self.purse(&task) else {
            return;
        };
        let (told, count) = {
            let mut state = purse.state();
            let knows = state
                .holding
                .kept()
                .any(|slice| slice.epoch == message.epoch);
            if knows || state.is_gone {
                return;
            }
            (state.holding.asked(), state.asking.asked)
        };
        let asked = Asked { purse, told, count };
        self.hear(&asked, message, asked_at, pending);
        asked.purse.told.notify_waiters();
    }
}

impl State {
    /// Takes what was told of the budget. Whether that is news beyond spending.
    fn learn(&mut self, message: SliceAnswer, answer: &Answer, asked_at: Duration) -> bool {
        if !message.reason.is_empty() {
            let reason = Reason::parse(&message.reason).unwrap_or(Reason::Internal);
            return self.missing.replace(reason) != Some(reason);
        }
        let (Some(budget), Some(account)) = (message.budget, message.account) else {
            return false;
        };
        self.unit.clone_from(&budget.unit);
        self.missing = None;
        // what is over is not of the window that the account is of
        let held = if answer.is_over {
            0
        } else {
            let back = answer.returned.saturating_add(answer.reported);
            answer.granted.saturating_sub(back)
        };
        let Some(terms) = &mut self.terms else {
            self.terms = Some(Terms::new(budget, account, held, asked_at));
            return true;
        };
        let before = terms.news();
        self.shown.has_changed |= terms.account != account;
        terms.renew(budget, account, held, asked_at);
        terms.news() != before
    }

    /// When it is told next, after it was told last; `None`: there is nothing to tell.
    fn next(&self, answer: &Answer, again: Duration) -> Option<Duration> {
        let half = (answer.lease / 2).max(SPACING);
        if self.holding.present().is_none() {
            None
        } else if answer.lease.is_zero() {
            Some(UNLEASED)
        } else if again.is_zero() || again >= EVERY {
            Some(half)
        } else {
            Some(again.max(SPACING).min(half))
        }
    }
}

/// What a message says of a slice; without a budget, that there is none.
fn answer(message: &SliceAnswer) -> Answer {
    if !message.reason.is_empty() {
        return Answer::default();
    }
    let window = message.account.as_ref();
    let window = window.and_then(|account| account.window_begins);
    Answer {
        epoch: message.epoch,
        granted: message.granted,
        returned: message.returned,
        reported: message.reported,
        lease: Duration::from_millis(message.lease_ms.into()),
        give_back: message.give_back,
        is_over: message.is_over,
        window: window.map(|at| at.seconds),
    }
}
