//! What is written down of every call: figures for the metrics, refusals for
//! the audit log.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{reason::Code, status::from_status};
use http::Response;
use tonic::{Status, body::Body};

use crate::{
    audit::{Context, Refusals},
    metrics::Metrics,
};

/// Writes down what came of calls.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// Figures.
    pub metrics: Metrics,
    /// Refusals.
    pub refusals: Arc<Refusals>,
}

impl Recorder {
    /// Takes the answer to a call of `path`. An error before the first message
    /// stands in its headers; a stream that fails later counts as begun.
    pub fn record(&self, path: &str, context: Context, answer: &Response<Body>, took: Duration) {
        let status = Status::from_header_map(answer.headers());
        let code = status.as_ref().map_or(0, |status| i32::from(status.code()));
        self.metrics.grpc_call(path, code.unsigned_abs(), took);
        let Some(problem) = status.as_ref().map(from_status) else {
            return;
        };
        if matches!(
            problem.reason.code(),
            Code::Unauthenticated | Code::PermissionDenied
        ) {
            self.refusals.note(context, path, problem.reason);
        }
    }
}
