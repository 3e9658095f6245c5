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
    purse::Purse,
    recall::Telling,
    refusal,
};

impl Slices {
    /// Gives back what is free here, so that other machines can have it; nothing can be set
    /// aside any more. What is set aside already stays so for the next process. Nothing is
    /// said where the control plane has not been heard lately.
    ///
    /// # Errors
    /// As `exchange`, which is called at most once for a thousand slices; and
    /// `UNAVAILABLE` where the disk does not take it.
    pub async fn give_back<F>(&self, exchange: impl Fn(ExchangeRequest) -> F) -> Result<(), Problem>
    where
        F: Future<Output = Result<ExchangeResponse, Problem>>,
    {
        self.is_ending.store(true, Ordering::Release);
        let mut purses: Vec<_> = self.purses.pin().values().cloned().collect();
        purses.retain(|purse| purse.state().holding.latest().is_some());
        let now = self.ambient.clock.since_boot();
        if purses.is_empty() || self.is_quiet(now) {
            return Ok(());
        }
        let mut turn = self.turn.clone().lock_owned().await;
        if !turn.is_complete() || self.is_quiet(now) {
            return Ok(());
        }
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
        self.journal.sync(up_to).await.map_err(refusal::unwritten)?;
        let mut asked = Vec::new();
        for purse in purses {
            asked.extend(last_words(&purse, now));
        }
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
        Ok(())
    }
}

/// What is told last of the slices of a task.
fn last_words(purse: &Arc<Purse>, now: Duration) -> Vec<Asked> {
    let mut state = purse.state();
    let slices = state.told(now);
    let slices = slices.into_iter().filter(|told| told.epoch > 0);
    let last = slices.map(|told| Told {
        wanted: 0,
        needed: 0,
        ends: true,
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
