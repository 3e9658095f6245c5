//! Telling the control plane what was spent, and hearing what there is: all slices that are
//! due in one call, one call at a time.

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use authguardian_proto::{
    budgets::v1::{ExchangeRequest, ExchangeResponse, SliceReport},
    ids::TaskId,
    reason::{Problem, Reason},
};
use prost_types::Timestamp;
use tokio::sync::OwnedMutexGuard;

use super::{
    MAX_AMOUNT, Slices,
    hearing::Pending,
    holding::Told,
    purse::{Purse, State},
    recall::{self, Recall, Telling, millis, timestamp},
    record::Record,
};

/// Between two exchanges, whoever waits.
pub(super) const SPACING: Duration = Duration::from_millis(20);
/// What is due so soon is told together with what is due now: half the time between two
/// tellings, so that all tasks that are spent from come to be told at the same time.
const TOGETHER: Duration = Duration::from_millis(500);
/// Until it is told again after no answer.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Until it is told again where the control plane refused it.
const REFUSED: Duration = Duration::from_secs(10);
/// What is told in one go.
pub(super) const AT_ONCE: usize = 1_000;
/// How often it is looked whether something is due, where nothing is.
const IDLE_LOOK: Duration = Duration::from_mins(1);

/// One exchange; there is no other until it is done. Dropping it is as if its answer were
/// lost.
#[derive(Debug)]
pub struct Round {
    turn: OwnedMutexGuard<Turn>,
    asked_at: Duration,
    request: ExchangeRequest,
    asked: Vec<Asked>,
    /// How many slices were told of after those that are over.
    past: usize,
}

/// What was told of one slice.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) purse: Arc<Purse>,
    pub(super) told: Told,
    /// How often the task had been told then.
    pub(super) count: u64,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Of the last exchange.
    sequence: u64,
    /// All that is known here was told once, so that the control plane names the rest.
    is_complete: bool,
    /// All that is remembered is to be told.
    pub(super) recall: Option<Recall>,
    /// The hold since which it was.
    pub(super) recalled: Option<Timestamp>,
    /// What was told was not answered.
    is_underway: bool,
}

/// When exchanges may be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since boot: the last one.
    last: Duration,
    /// Nothing was heard; there is none before this.
    quiet_until: Duration,
}

impl Turn {
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }
}

impl Round {
    /// What is to be sent.
    pub fn request(&self) -> &ExchangeRequest {
        &self.request
    }

    fn is_of_one_task(&self) -> bool {
        let mut purses = self.asked.iter().map(|asked| &asked.purse);
        let first = purses.next();
        first.is_some_and(|first| purses.all(|purse| Arc::ptr_eq(first, purse)))
    }
}

impl Slices {
    /// The process is known to the control plane as this from now on; before, nothing is
    /// told.
    pub fn begin(&self, incarnation: u64) {
        self.incarnation.store(incarnation, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Waits until something is to be told, and tells what. Whoever takes a round ends it
    /// with [`Slices::take`] or [`Slices::put_off`].
    pub async fn round(&self) -> Round {
        loop {
            let pause = match self.round_now().await {
                Ok(round) => return round,
                Err(pause) => pause.min(IDLE_LOOK),
            };
            // whatever comes first: the time, or somebody who cannot wait for it
            let _ = tokio::time::timeout(pause, self.wanted.notified()).await;
        }
    }

    /// What is to be told now.
    ///
    /// # Errors
    /// How long nothing is.
    pub async fn round_now(&self) -> Result<Round, Duration> {
        let mut turn = self.turn.clone().lock_owned().await;
        let now = self.ambient.clock.since_boot();
        if self.tells_all.swap(false, Ordering::AcqRel) {
            turn.is_complete = false;
        }
        if self.incarnation.load(Ordering::Acquire) == 0 || self.is_ending() {
            return Err(IDLE_LOOK);
        }
        let begins_at = {
            let pace = self.pace();
            pace.quiet_until.max(pace.last.saturating_add(SPACING))
        };
        let is_asked = turn.recall.is_some() || !self.doubts().is_empty();
        let due = if turn.is_complete && !is_asked {
            self.due()
        } else {
            Some(now)
        };
        let due = due.map_or(IDLE_LOOK, |due| due.max(begins_at).saturating_sub(now));
        if !due.is_zero() {
            return Err(due);
        }
        let told = self.tell(&mut turn, now);
        if told.asked.is_empty()
            && told.past.is_empty()
            && told.recalled.is_none()
            && turn.is_complete
        {
            return Err(SPACING);
        }
        Ok(self.ask_for(turn, told, now))
    }

    /// What is told next: of what is due, or of all that is remembered.
    fn tell(&self, turn: &mut Turn, now: Duration) -> Telling {
        let is_unanswered = turn.is_underway;
        if let Some(recall) = turn.recall.take_if(|recall| recall.is_refused()) {
            tracing::error!(
                "the control plane does not take all that this machine tells of budgets: an operator has to settle what it spent"
            );
            turn.recalled = recall.asked().held_since;
        }
        let Some(recall) = &mut turn.recall else {
            return Telling {
                asked: self.ask(now, turn.is_complete),
                past: self.take_doubts(),
                recalled: None,
            };
        };
        if is_unanswered {
            *recall = self.begin_recall(recall.asked());
        }
        self.tell_past(recall, now)
    }

    /// Ends a round with what was answered.
    pub async fn take(&self, mut round: Round, response: ExchangeResponse) {
        if response.slices.len() < round.asked.len() + round.past {
            let detail = "the control plane's answer cannot be understood by this edge";
            return self.put_off(&round, &Problem::new(Reason::Internal, detail));
        }
        round.turn.is_complete = true;
        let time = response.time.as_ref().map_or(0, millis);
        let mut pending = Pending {
            time,
            ..Pending::default()
        };
        self.end_telling(&mut round, &response);
        let (asked_at, asked) = (round.asked_at, std::mem::take(&mut round.asked));
        let mut answers = response.slices.into_iter();
        for (asked, answer) in asked.iter().zip(answers.by_ref()) {
            self.hear(asked, answer, asked_at, &mut pending);
        }
        for answer in answers.skip(round.past) {
            self.adopt(answer, asked_at, &mut pending);
        }
        let begins = self.begin_memory(time, &mut pending);
        let synced = self.journal.sync(pending.up_to).await;
        match synced {
            Ok(()) => {
                for (purse, row, generation) in &pending.rows {
                    purse.state().wrote(*row, *generation);
                }
                if begins {
                    self.memory().begin(time);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the journal of budgets is not on disk");
                self.chores.notify_one();
            }
        }
        let is_due = time > 0 && self.memory().is_to_be_looked_at(time);
        if is_due {
            self.forget_past(time);
        }
        for Asked { purse, .. } in &asked {
            purse.told.notify_waiters();
        }
    }

    /// What came of telling all that is remembered.
    fn end_telling(&self, round: &mut Round, response: &ExchangeResponse) {
        let told = round.asked.len() + round.past;
        let turn = &mut round.turn;
        turn.is_underway = false;
        if let Some(recall) = &mut turn.recall {
            recall.hear(&response.slices[..told]);
            if let Some(recalled) = round.request.recalled {
                (turn.recalled, turn.recall) = (Some(recalled), None);
            }
        }
        self.recall(turn, response.recall);
    }

    /// From the first answer on all that is over is remembered. Whether that is written now.
    fn begin_memory(&self, time: u64, pending: &mut Pending) -> bool {
        if time == 0 || self.memory().since().is_some() {
            return false;
        }
        match self.journal.note(&Record::Since(time)) {
            Ok(written) => {
                pending.up_to = pending.up_to.max(written);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the journal of budgets cannot be written");
                false
            }
        }
    }

    /// Ends a round without an answer.
    pub fn put_off(&self, round: &Round, problem: &Problem) {
        let now = self.ambient.clock.since_boot();
        let is_refused = problem.reason == Reason::InvalidArgument;
        let is_alone = round.is_of_one_task();
        let pause = match problem.reason {
            // then each that was told is told alone
            Reason::InvalidArgument if !round.asked.is_empty() && round.turn.recall.is_none() => {
                SPACING
            }
            _ => self.ambient.jittered(PAUSE),
        };
        if is_refused && is_alone {
            let task = round.asked.first().map(|asked| &asked.purse.task);
            tracing::error!(
                ?task,
                detail = problem.detail,
                "the control plane does not take what this machine tells of a budget"
            );
        } else {
            tracing::debug!(reason = %problem.reason, detail = problem.detail, "no slices of budgets were told");
        }
        self.pace().quiet_until = now.saturating_add(pause);
        for Asked { purse, .. } in &round.asked {
            let mut state = purse.state();
            state.asking.is_suspect |= is_refused;
            let pause = if is_refused && is_alone {
                REFUSED
            } else {
                pause
            };
            state.tell_by(now.saturating_add(pause));
            self.telling.flush(purse, &mut state, now);
            purse.told.notify_waiters();
        }
    }

    /// Something has happened to a budget: what is known of it is old, and it is told at
    /// once where this machine holds something of it.
    pub fn hurry(&self, task: &TaskId) {
        if let Some(purse) = self.known_purse(task) {
            let mut state = purse.state();
            state.stale = state.asking.asked + 1;
            state.tell_by(Duration::ZERO);
            drop(state);
            self.wanted.notify_one();
        }
    }

    /// Whether the control plane was away just now.
    pub(super) fn is_quiet(&self, now: Duration) -> bool {
        let until = self.pace().quiet_until;
        // the short pauses between exchanges are none
        until > now.saturating_add(SPACING)
    }

    /// Whether the control plane counts as away.
    #[cfg(test)]
    pub(super) fn pace_for_tests(&self, is_away: bool) {
        let until = if is_away {
            Duration::MAX
        } else {
            Duration::ZERO
        };
        self.pace().quiet_until = until;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When something is due, since boot.
    fn due(&self) -> Option<Duration> {
        let purses = self.purses.pin();
        let dues = purses
            .values()
            .filter_map(|purse| purse.state().asking.due());
        dues.min()
    }

    /// What is told of the tasks that are due; of all, where not all was told yet.
    fn ask(&self, now: Duration, is_complete: bool) -> Vec<Asked> {
        let mut asked = Vec::new();
        let purses = self.purses.pin();
        for purse in purses.values() {
            let mut state = purse.state();
            let until = now.saturating_add(TOGETHER);
            // one that may be refused is told alone
            let is_alone = state.asking.is_suspect;
            let is_due =
                state.asking.due().is_some_and(|due| due <= until) || (!is_complete && !is_alone);
            if state.is_gone || !is_due || (is_alone && !asked.is_empty()) {
                continue;
            }
            if state.unsynced > self.journal.synced() {
                state.asking.put_off(now.saturating_add(PAUSE));
                self.chores.notify_one();
                continue;
            }
            let all = state.told(now);
            if is_alone || asked.len() + all.len() <= AT_ONCE {
                let count = state.asking.asked;
                asked.extend(all.into_iter().map(|told| Asked {
                    purse: purse.clone(),
                    told,
                    count,
                }));
            } else {
                state.asking.put_off(now);
            }
            if is_alone && !asked.is_empty() {
                break;
            }
        }
        asked
    }

    /// Makes one exchange of it.
    pub(super) fn ask_for(
        &self,
        mut turn: OwnedMutexGuard<Turn>,
        told: Telling,
        asked_at: Duration,
    ) -> Round {
        let Telling {
            asked,
            past,
            recalled,
        } = told;
        turn.is_underway = true;
        turn.sequence += 1;
        self.pace().last = asked_at;
        let (told, past_count) = (asked.iter().map(Asked::message), past.len());
        let request = ExchangeRequest {
            incarnation: self.incarnation.load(Ordering::Acquire),
            sequence: turn.sequence,
            journal: self.journal.id(),
            slices: told.chain(past).collect(),
            complete: !turn.is_complete,
            remembers_since: self.memory().since().map(timestamp),
            recalled,
        };
        Round {
            turn,
            asked_at,
            request,
            asked,
            past: past_count,
        }
    }
}

impl State {
    /// What is told of all slices of the task.
    pub(super) fn told(&mut self, now: Duration) -> Vec<Told> {
        let told = self.holding.told(now);
        let asking = &mut self.asking;
        asking.begin();
        if !told.is_empty() {
            (asking.asked_at, asking.asked) = (now, asking.asked + 1);
        }
        told
    }
}

impl Asked {
    fn message(&self) -> SliceReport {
        let Told {
            epoch,
            report,
            wanted,
            needed,
            ends,
            window,
        } = self.told;
        SliceReport {
            task_id: self.purse.task.to_string(),
            epoch,
            granted: report.granted,
            returned: report.returned,
            spent: report.spent,
            reserved: report.reserved,
            wanted: wanted.min(MAX_AMOUNT),
            needed: needed.min(MAX_AMOUNT),
            ends,
            window_begins: window.map(recall::window),
        }
    }
}
