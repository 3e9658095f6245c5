//! Keeping this machine's slices of budgets.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::Core;

/// For the last word on what is given back.
const LAST_WORD: Duration = Duration::from_secs(2);

impl Core {
    /// Tells the control plane what was spent here, and gets more, until told to stop.
    pub async fn keep_slices(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let Some(round) = stop.run_until_cancelled(self.slices.round()).await else {
                return;
            };
            let exchange = round.request().clone();
            let exchanging = self.upstream.exchange_slices(exchange);
            match stop.run_until_cancelled(exchanging).await {
                Some(Ok(response)) => self.slices.take(round, response).await,
                Some(Err(problem)) => self.slices.put_off(&round, &problem),
                None => return,
            }
        }
    }

    /// Releases what is not settled in time, and keeps the journal, until told to stop.
    pub async fn tend_slices(self: Arc<Self>, stop: CancellationToken) {
        self.slices.clone().tend(stop).await;
    }

    /// Gives back what is free here: this edge ends.
    pub async fn give_slices_back(&self) {
        let exchange = |exchange| self.upstream.exchange_slices(exchange);
        let giving = self.slices.give_back(exchange);
        match tokio::time::timeout(LAST_WORD, giving).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => {
                tracing::debug!(reason = %problem.reason, detail = problem.detail, "budgets were not given back");
            }
            Err(_) => tracing::debug!("budgets were not given back in time"),
        }
    }
}
