//! What is done beside the calls: reservations that are not settled in time are released,
//! marks are raised before they are reached, and the journal is written anew.

use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::Problem;
use tokio_util::sync::CancellationToken;

use super::{
    Slices,
    holding::Row,
    purse::{Purse, State, remembered},
    record::Record,
    refusal,
};

/// How often it is looked.
const TICK: Duration = Duration::from_millis(250);
/// After so long what is not known to be a budget of this machine's is forgotten …
const FORGOTTEN: Duration = Duration::from_secs(5);
/// … and what is, and has been settled.
const OVER: Duration = Duration::from_hours(1);
/// Between attempts to write the journal anew.
const PAUSE: Duration = Duration::from_secs(1);

/// How far a slice may be used, which counts once it is on disk.
type Raising = (Arc<Purse>, Row, u64);

impl Slices {
    /// Tends to all of it, until told to stop.
    pub async fn tend(self: Arc<Self>, stop: CancellationToken) {
        let mut rewrites_at = Duration::ZERO;
        loop {
            let pause = tokio::time::timeout(TICK, self.chores.notified());
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            self.tidy();
            self.raise_ahead().await;
            let now = self.ambient.clock.since_boot();
            if self.journal.wants_rewriting() && rewrites_at <= now {
                rewrites_at = now.saturating_add(PAUSE);
                self.clone().rewrite().await;
            }
        }
    }

    /// A caller waits until a slice may be used so far.
    ///
    /// # Errors
    /// `UNAVAILABLE` where the disk does not take it.
    pub(super) async fn raise(&self, purse: &Arc<Purse>, row: Row) -> Result<(), Problem> {
        let (written, generation) = {
            let mut state = purse.state();
            let written = state.write_row(&purse.task, &self.journal, row);
            let written = written.map_err(refusal::unwritten)?;
            (written, state.pen.generation)
        };
        if let Some(written) = written {
            let synced = self.journal.sync(written).await;
            synced.map_err(|error| {
                self.chores.notify_one();
                refusal::unwritten(error)
            })?;
            purse.state().wrote(row, generation);
        }
        Ok(())
    }

    /// Raises the marks that are about to be reached: one wait for the disk serves all.
    async fn raise_ahead(&self) {
        if self.journal.is_doubtful() {
            return;
        }
        let (mut raising, mut up_to) = (Vec::<Raising>::new(), 0);
        for purse in self.purses.pin().values() {
            let mut state = purse.state();
            let Some(row) = state.holding.ahead() else {
                state.is_raising = false;
                continue;
            };
            match state.write_row(&purse.task, &self.journal, row) {
                Ok(Some(written)) => {
                    raising.push((purse.clone(), row, state.pen.generation));
                    up_to = written;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the journal of budgets cannot be written");
                }
            }
        }
        if raising.is_empty() {
            return;
        }
        let synced = self.journal.sync(up_to).await;
        if let Err(error) = &synced {
            tracing::warn!(%error, "the journal of budgets is not on disk");
        }
        for (purse, row, generation) in raising {
            let mut state = purse.state();
            state.is_raising = false;
            if synced.is_ok() {
                state.wrote(row, generation);
            }
        }
    }

    /// Releases what was not settled in time, tells what was held back, and forgets what
    /// nobody asks for.
    fn tidy(&self) {
        let now = self.ambient.clock.since_boot();
        let purses = self.purses.pin();
        for (task, purse) in &purses {
            let mut state = purse.state();
            match state.release_expired(task, &self.journal, now) {
                Ok(true) => self.moved(&mut state),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the journal of budgets cannot be written");
                }
            }
            self.telling.flush(purse, &mut state, now);
            let lasts = if state.pen.is_named { OVER } else { FORGOTTEN };
            if state.is_idle() && state.asking.asked_at.saturating_add(lasts) <= now {
                state.is_gone = true;
                purses.remove(task);
            }
        }
    }

    /// Writes the journal anew, without what nobody needs any more.
    async fn rewrite(self: Arc<Self>) {
        let turn = self.journal.turn().await;
        let rewriting = move || {
            // held also where nobody waits for it any more
            let _turn = turn;
            self.rewrite_now()
        };
        match tokio::task::spawn_blocking(rewriting).await {
            Ok(Ok(())) => tracing::debug!("the journal of budgets was written anew"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the journal of budgets cannot be written anew");
            }
            Err(error) => tracing::error!(%error, "writing the journal of budgets anew failed"),
        }
    }

    /// Likewise. Whoever calls holds the journal's turn.
    pub(super) fn rewrite_now(&self) -> std::io::Result<()> {
        self.journal.begin_rewriting()?;
        let copied = self
            .purses
            .pin()
            .values()
            .try_for_each(|purse| purse.copy(&self.journal));
        copied
            .and_then(|()| self.journal.copy_rest(&self.remembered()))
            .and_then(|()| self.journal.end_rewriting())
            .inspect_err(|_| self.journal.abandon_rewriting())
    }
}

impl Slices {
    /// All that is remembered, in lines. Once every task is copied, what comes to be over goes
    /// to both journals.
    fn remembered(&self) -> Vec<u8> {
        let memory = self.memory();
        let mut lines = Vec::new();
        if let Some(since) = memory.since() {
            Record::Since(since).write(&mut lines);
        }
        for (task, epoch, past) in memory.all() {
            remembered(task, epoch, past).write(&mut lines);
        }
        lines
    }

    /// Forgets what was over too long ago. What cannot be written down stays.
    pub(super) fn forget_past(&self, now: u64) {
        let mut memory = self.memory();
        let Some(up_to) = memory.too_old(now) else {
            return;
        };
        match self.journal.note(&Record::Since(up_to.saturating_add(1))) {
            Ok(_) => memory.forget(up_to),
            Err(error) => tracing::warn!(%error, "the journal of budgets cannot be written"),
        }
    }
}

impl State {
    /// A row is on disk; where the journal was written anew meanwhile, it may not be.
    pub(super) fn wrote(&mut self, row: Row, generation: u64) {
        if self.pen.generation == generation {
            self.holding.wrote(row);
        }
    }
}
