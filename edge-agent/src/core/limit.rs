//! How often a caller may call, and the leases that this is known by.

use std::sync::Arc;

use authguardian_proto::reason::Problem;
use tokio_util::sync::CancellationToken;

use super::{Caller, Core, Outcome};

impl Core {
    /// Takes one call from the limits of a caller's key: of a tool, or of no
    /// tool in particular.
    ///
    /// # Errors
    /// `RATE_LIMITED`, with when to try again; it is noted.
    pub(super) async fn admit(
        &self,
        caller: &Caller,
        tool: Option<&str>,
        action: impl FnOnce() -> String,
    ) -> Result<(), Problem> {
        let session = caller.session();
        let checking = self
            .limits
            .check(session.api_key_id, &session.rate_limits, tool);
        let Err(wait) = checking.await else {
            return Ok(());
        };
        let detail = "this API key is used more often than it may be; wait, then try again";
        let problem = Problem::rate_limited(detail, wait);
        let reason = Some(problem.reason);
        self.note(caller, action(), None, Outcome::Refused, reason);
        Err(problem)
    }

    /// Asks for shares of limits whenever they are due, until told to stop.
    pub async fn keep_leases(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let Some(round) = stop.run_until_cancelled(self.limits.round()).await else {
                return;
            };
            let asking = self.upstream.lease_rates(round.uses());
            match stop.run_until_cancelled(asking).await {
                Some(Ok(shares)) => self.limits.take(&round, &shares),
                Some(Err(problem)) => {
                    tracing::debug!(reason = %problem.reason, detail = problem.detail, "no shares of limits were leased");
                    self.limits.put_off(&round);
                }
                None => return,
            }
        }
    }
}
