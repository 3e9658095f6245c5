//! One try of a call of the machine's own, within a time of its own: the request's
//! begins only when there is a connection.

use std::{future::Future, time::Duration};

use authguardian_proto::{
    reason::{Problem, Reason},
    status::from_status,
};
use tonic::{Response, Status};

/// Waits for an answer for so long.
///
/// # Errors
/// `UNAVAILABLE` without one; what the control plane refuses.
pub(in crate::upstream) async fn in_time<R>(
    limit: Duration,
    answer: impl Future<Output = Result<Response<R>, Status>>,
) -> Result<R, Problem> {
    let late = || {
        let detail = format!("no answer within {} seconds", limit.as_secs());
        Problem::new(Reason::Unavailable, detail)
    };
    tokio::time::timeout(limit, answer)
        .await
        .map_err(|_| late())?
        .map(Response::into_inner)
        .map_err(|status| from_status(&status))
}
