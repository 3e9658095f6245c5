//! Errors on their way out: the caller gets the reason, the log the cause.

use authguardian_proto::{reason::Code, status::to_status};
use tonic::Status;

use crate::error::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let problem = error.problem();
        match (problem.reason.code(), error.cause()) {
            (Code::Internal, cause) => {
                tracing::error!(%problem, cause = cause.map(tracing::field::display), "request failed");
            }
            (_, Some(cause)) => tracing::warn!(%problem, %cause, "request refused"),
            (_, None) => tracing::debug!(%problem, "request refused"),
        }
        to_status(problem)
    }
}
