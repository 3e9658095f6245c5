//! `/auth`: a session for whoever signs a nonce, and what becomes of it.

use std::sync::Arc;

use authguardian_proto::{credential::SessionToken, reason::Problem};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::problem;
use crate::{
    core::{Caller, Core, Peer, SessionInfo},
    upstream::SignedNonce,
};
use body::{CHALLENGE, NONCE, PROOF, SIGNATURE};

pub(super) mod body;

/// A nonce to sign.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChallengeAnswer {
    /// Random bytes, base64; send them back as they are.
    nonce: String,
    /// The bytes to sign, base64: a fixed text, a zero byte, the nonce.
    message: String,
    /// After this the nonce is refused, RFC 3339 in UTC.
    expires_at: String,
}

/// Who a caller is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SessionAnswer {
    /// The API key.
    api_key_id: String,
    /// Agents that it speaks for.
    agent_ids: Vec<String>,
    /// Whether it may check other agents' tokens.
    validator: bool,
    /// Zone that the call counts as coming from.
    zone: &'static str,
    /// Id of the session; missing when the API key itself was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    /// When the session's token ends, RFC 3339 in UTC; missing when the API key itself was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// A session that was made, or renewed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NewSessionAnswer {
    #[serde(flatten)]
    session: SessionAnswer,
    /// The credential to present from now on.
    session_token: String,
}

/// `POST /auth/challenge`: a nonce for a key.
pub(super) async fn challenge(
    State(core): State<Arc<Core>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let challenged = async {
        let body = body::read(&body, CHALLENGE)?;
        let key = body::api_key_id(&body)?;
        core.challenge(&peer, key).await
    };
    respond(challenged.await.map(|challenge| {
        let answer = ChallengeAnswer {
            nonce: STANDARD.encode(&challenge.nonce),
            message: STANDARD.encode(&challenge.message),
            expires_at: rfc3339(challenge.expires_at),
        };
        (StatusCode::OK, answer)
    }))
}

/// `POST /auth/session`: a session for a signed nonce.
pub(super) async fn open(
    State(core): State<Arc<Core>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let opened = async {
        let body = body::read(&body, PROOF)?;
        let signed = SignedNonce {
            api_key_id: body::api_key_id(&body)?,
            nonce: NONCE.bytes(&body)?,
            signature: SIGNATURE.bytes(&body)?,
        };
        core.open_session(&peer, signed).await
    };
    respond(opened.await.map(made))
}

/// `GET /auth/session`: who the caller is.
pub(super) async fn read(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    respond(Ok((StatusCode::OK, described(&core.who_is(&caller)))))
}

/// `POST /auth/session/renew`: another token of the session.
pub(super) async fn renew(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    respond(core.renew_session(&caller).await.map(made))
}

/// `DELETE /auth/session`: logout.
pub(super) async fn end(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
) -> Response {
    match core.end_session(&caller).await {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(problem) => problem::respond(&problem),
    }
}

fn made((info, token): (SessionInfo, SessionToken)) -> (StatusCode, NewSessionAnswer) {
    let answer = NewSessionAnswer {
        session: described(&info),
        session_token: token.expose().to_owned(),
    };
    (StatusCode::CREATED, answer)
}

fn described(info: &SessionInfo) -> SessionAnswer {
    SessionAnswer {
        api_key_id: info.api_key_id.to_string(),
        agent_ids: info.agent_ids.iter().map(ToString::to_string).collect(),
        validator: info.validator,
        zone: info.zone.as_str(),
        session_id: info.id.map(|id| id.to_string()),
        expires_at: info.expires_at.map(rfc3339),
    }
}

pub(super) fn respond(outcome: Result<(StatusCode, impl Serialize), Problem>) -> Response {
    let (status, answer) = match outcome {
        Ok(told) => told,
        Err(problem) => return problem::respond(&problem),
    };
    // answers are structs of strings and flags, which always become JSON
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        // tokens are nobody else's
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    // times of this century, which always have that form
    time.format(&Rfc3339).unwrap_or_default()
}
