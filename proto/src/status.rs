//! A [`Problem`] as a gRPC status and back: the sentence is the status
//! message, reason and field travel as `google.rpc.ErrorInfo` (AIP-193), and
//! when to try again as `google.rpc.RetryInfo`.

use std::{collections::HashMap, time::Duration};

use tonic::{Code as GrpcCode, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::reason::{Code, Problem, Reason};

/// The `domain` of every `ErrorInfo`.
const DOMAIN: &str = "authguardian";

/// What the server sends.
pub fn to_status(problem: &Problem) -> Status {
    let metadata: HashMap<String, String> = problem
        .field
        .iter()
        .map(|field| ("field".to_owned(), field.clone()))
        .collect();
    let mut details = ErrorDetails::with_error_info(problem.reason.as_str(), DOMAIN, metadata);
    if let Some(seconds) = problem.retry_after_seconds {
        details.set_retry_info(Some(Duration::from_secs(seconds.into())));
    }
    let code = GrpcCode::from_i32(problem.reason.code().grpc());
    Status::with_error_details(code, &problem.detail, details)
}

/// What a client makes of a status. One without our details comes from the
/// transport or from tonic itself: for a mutating call whose reply was lost,
/// the caller has to treat [`Reason::Unavailable`] as an unknown outcome.
pub fn from_status(status: &Status) -> Problem {
    if let Some(info) = status
        .get_details_error_info()
        .filter(|info| info.domain == DOMAIN)
        && let Some(reason) = Reason::parse(&info.reason)
    {
        return Problem {
            reason,
            detail: status.message().to_owned(),
            field: info.metadata.get("field").cloned(),
            retry_after_seconds: retry_after(status),
        };
    }
    let reason = match status.code() {
        GrpcCode::InvalidArgument => Reason::InvalidArgument,
        GrpcCode::Unauthenticated => Reason::Unauthenticated,
        GrpcCode::PermissionDenied => Reason::PermissionDenied,
        GrpcCode::ResourceExhausted => Reason::ResourceExhausted,
        GrpcCode::OutOfRange => Reason::TooLarge,
        GrpcCode::Internal | GrpcCode::Unimplemented | GrpcCode::DataLoss => Reason::Internal,
        _ => Reason::Unavailable,
    };
    let detail = match reason.code() {
        Code::Unavailable => "the server cannot be reached or did not answer in time".to_owned(),
        Code::Internal => "the server failed; its log has the cause".to_owned(),
        _ => status.message().to_owned(),
    };
    Problem::new(reason, detail)
}

fn retry_after(status: &Status) -> Option<u32> {
    let delay = status.get_details_retry_info()?.retry_delay?;
    u32::try_from(delay.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_survives_the_wire() {
        for reason in Reason::ALL {
            let problem = Problem::new(*reason, "expected a name").at("agent_id");
            assert_eq!(from_status(&to_status(&problem)), problem);
        }
        let limited = Problem::rate_limited("wait", Duration::from_millis(2500));
        assert_eq!(from_status(&to_status(&limited)), limited);
    }

    #[test]
    fn a_foreign_status_leaks_no_internal_text() {
        let problem = from_status(&Status::internal("panicked at src/secret.rs"));
        assert_eq!(problem.reason, Reason::Internal);
        assert!(!problem.detail.contains("secret.rs"));
    }
}
