//! The last word of an edge that ends.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use authguardian_proto::{
    budgets::v1::{ExchangeRequest, ExchangeResponse},
    reason::Problem,
};

use super::{
    Slices,
    exchange::{AT_ONCE, Asked},
    holding::Told,
    purse::{Purse, State},
    recall::Telling,
    refusal,
};

/// How often it is said what is given back: an answer may tell of more that was given, on
/// an exchange that was broken off.
const ROUNDS: usize = 2;

impl Slices {
    /// Gives back what is free here, so that other machines can have it; nothing can be set
    /// aside any more. What is set aside already stays so for the next process. Nothing is
    /// said where the control plane has not been heard lately.
    ///
    /// # Errors
    /// As `exchange`, which is called at most twice for a thousand slices; and
    /// `UNAVAILABLE` where the disk does not take it.
    pub async fn give_back<F>(&self, exchange: impl Fn(ExchangeRequest) -> F) -> Result<(), Problem>
    where
        F: Future<Output = Result<ExchangeResponse, Problem>>,
    {
        self.is_ending.store(true, Ordering::Release);
        let mut purses: Vec<_> = self.purses.pin().values().cloned().collect();
        purses.retain(|purse| purse.state().holding.may_hold());
        let now = self.ambient.clock.since_boot();
        if purses.is_empty() || self.is_quiet(now) {
            return Ok(());
        }
        let mut turn = self.turn.clone().lock_owned().await;
        if !turn.is_complete() || self.is_quiet(now) {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            self.end_all(&mut purses).await?;
            let mut asked: Vec<_> = purses
                .iter()
                .flat_map(|purse| last_words(purse, now))
                .collect();
            while !asked.is_empty() {
                let rest = asked.split_off(asked.len().min(AT_ONCE));
                let told = Telling {
                    asked,
                    ..Telling::default()
                };
                let round = self.ask_for(turn, told, now);
                let response = exchange(round.request().clone()).await?;
                self.take(round, response).await;
                turn = self.turn.clone().lock_owned().await;
                asked = rest;
            }
            purses.retain(|purse| purse.state().has_more_to_give());
        }
        Ok(())
    }

    /// Ends the spending from all of these, on disk; leaves out those of which that cannot be
    /// written.
    async fn end_all(&self, purses: &mut Vec<Arc<Purse>>) -> Result<(), Problem> {
        let mut up_to = 0;
        purses.retain(|purse| {
            let mut state = purse.state();
            let mut next = state.holding.clone();
            next.end();
            let written = state.replace(&purse.task, &self.journal, next, None, None);
            let is_written = written.is_ok();
            let written = written.ok().flatten().unwrap_or_default();
            up_to = up_to.max(written).max(state.unsynced);
            is_written
        });
        let synced = self.journal.sync(up_to).await;
        synced.map_err(refusal::unwritten)
    }
}

impl State {
    /// Whether an answer has told of something to give back, or it was given back then.
    fn has_more_to_give(&self) -> bool {
        self.holding.free() > 0 || self.asking.due() == Some(Duration::ZERO)
    }
}

/// What is told last of the slices of a task; of one that may have been given and was not heard
/// of, nothing, so that it is named.
fn last_words(purse: &Arc<Purse>, now: Duration) -> Vec<Asked> {
    let mut state = purse.state();
    let slices = state.told(now);
    let last = slices.into_iter().map(|told| Told {
        wanted: 0,
        needed: 0,
        ends: told.epoch > 0,
        ..told
    });
    let count = state.asking.asked;
    last.map(|told| Asked {
        purse: purse.clone(),
        told,
        count,
    })
    .collect()
}
