//! Telling the audit log of calls that ended here.

use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::{Code, Problem};
use tokio_util::sync::CancellationToken;

use super::Core;

/// Between batches.
const EVERY: Duration = Duration::from_secs(1);

/// For the last ones, when the edge ends.
const LAST_WORD: Duration = Duration::from_secs(4);

impl Core {
    /// Tells what the journal has, about once a second, until told to stop; then once more.
    pub async fn keep_journal(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let pause = tokio::time::sleep(self.ambient.jittered(EVERY));
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
            if stop.run_until_cancelled(self.ship()).await.is_none() {
                break;
            }
        }
        let last = tokio::time::timeout(LAST_WORD, self.ship()).await;
        if last != Ok(true) {
            tracing::info!("the last calls that ended here are told when this edge runs again");
        }
    }

    /// Sends until nothing waits or a try is in vain; whether nothing waits.
    async fn ship(&self) -> bool {
        while !self.journal.cut().await {
            if !self.ship_closed().await {
                return false;
            }
        }
        self.ship_closed().await
    }

    /// Sends what is closed.
    async fn ship_closed(&self) -> bool {
        loop {
            let batch = match self.journal.next().await {
                Ok(Some(batch)) => batch,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let message = self.journal.message(&batch);
            match self.upstream.report_calls(message).await {
                Ok(written) => {
                    if !self.journal.written(batch, written).await {
                        return false;
                    }
                }
                Err(problem) if is_for_good(&problem) => {
                    tracing::error!(reason = %problem.reason, detail = problem.detail, field = problem.field, calls = batch.len(),
                        "a part of the journal of calls was refused and is given up");
                    self.journal.refused(batch).await;
                }
                Err(problem) => {
                    tracing::debug!(reason = %problem.reason, detail = problem.detail, "the journal of calls waits");
                    return false;
                }
            }
        }
    }
}

/// Whether sending the same again can only fail again.
fn is_for_good(problem: &Problem) -> bool {
    matches!(
        problem.reason.code(),
        Code::InvalidArgument | Code::Conflict | Code::TooLarge
    )
}
