//! `/.well-known/jwks.json`: the public keys that grant tokens are checked with.

use authguardian_proto::credential::sha256;
use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{HttpState, problem_response};

/// A key is published for longer than this before it signs
/// (`identity.key_publication_seconds`).
const CACHE: &str = "public, max-age=30";

pub(super) async fn jwks(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let text = match (state.jwks)().await {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(%error, cause = ?error.cause(), "the key set cannot be given");
            return problem_response(error.problem());
        }
    };
    let tag = format!(
        "\"{}\"",
        BASE64_URL_SAFE_NO_PAD.encode(sha256(text.as_bytes()))
    );
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().trim_start_matches("W/") == tag);
    let head = [(header::ETAG, tag.as_str()), (header::CACHE_CONTROL, CACHE)];
    if known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (
        head,
        [(header::CONTENT_TYPE, "application/jwk-set+json")],
        text,
    )
        .into_response()
}
