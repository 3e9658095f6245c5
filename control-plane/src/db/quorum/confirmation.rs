//! What is left to wait for after a batch's commit.

use std::sync::Arc;

use authguardian_proto::reason::Reason;
use sqlx::{Postgres, Transaction};

use super::{COMMIT_DEADLINE, Quorum, flushed::EMIT_AND_ASK, unknown};
use crate::{
    db::{Pools, Primary},
    error::{Error, Result},
};

/// What a batch still waits for after its commit.
#[must_use = "nobody may be told before it is awaited"]
#[derive(Debug)]
pub struct Confirmation(Option<Waiting>);

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tx: Transaction<'static, Postgres>,
    pub(super) quorum: Arc<Quorum>,
    /// Whose connection it is, where that is known.
    pub(super) primary: Option<Arc<Primary>>,
}

impl Confirmation {
    pub(super) const fn of(waiting: Waiting) -> Self {
        Self(Some(waiting))
    }

    /// Nothing was written that anybody waits for.
    pub const fn needless() -> Self {
        Self(None)
    }

    /// Whether there is nothing to wait for.
    pub const fn is_needless(&self) -> bool {
        self.0.is_none()
    }

    /// Waits until the commit has reached the quorum, by a later commit on the
    /// same server that has; no longer once that server has been succeeded.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` when it may be on fewer nodes than promised.
    pub async fn confirmed(self) -> Result<()> {
        let Some(waiting) = self.0 else {
            return Ok(());
        };
        let Waiting {
            mut tx,
            quorum,
            primary,
        } = waiting;
        let confirmed = async { quorum.emit(&mut tx, EMIT_AND_ASK).await.map_err(after_emit) };
        let confirmed = tokio::time::timeout(COMMIT_DEADLINE, confirmed);
        let ended = Pools::unless_over(primary, confirmed).await;
        ended
            .and_then(std::result::Result::ok)
            .unwrap_or_else(|| Err(unknown("the commit was not confirmed in time")))
    }
}

/// The batch is committed, whatever went wrong with its confirmation.
fn after_emit(error: Error) -> Error {
    if error.reason() == Reason::OutcomeUnknown {
        error
    } else {
        unknown("the commit could not be confirmed").caused_by(error)
    }
}
