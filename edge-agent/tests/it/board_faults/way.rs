//! The ways of a client to a board: REST at an edge, or gRPC at the control
//! planes.

use std::time::Duration;

use authguardian_history::{Call, Outcome};

use super::{grpc::Grpc, rest::Rest};

/// The board that is tested.
pub(super) const BOARD: &str = "strong";

/// Longer than an edge or a control plane takes to give a call up.
const TRY_TIMEOUT: Duration = Duration::from_secs(25);

/// One of them.
#[derive(Clone)]
pub(super) enum Way {
    Rest(Rest),
    Grpc(Grpc),
}

impl Way {
    /// The agent for which it calls.
    pub(super) fn agent(&self) -> &str {
        match self {
            Self::Rest(rest) => &rest.agent,
            Self::Grpc(grpc) => &grpc.agent,
        }
    }

    /// One attempt.
    pub(super) async fn ask(&self, call: &Call, request_id: &str) -> Outcome {
        let answer = async {
            match self {
                Self::Rest(rest) => rest.ask(call, request_id).await,
                Self::Grpc(grpc) => grpc.ask(call, request_id).await,
            }
        };
        let answer = tokio::time::timeout(TRY_TIMEOUT, answer).await;
        answer.unwrap_or_else(|_| super::reason::unknown("no answer in time".to_owned()))
    }
}
