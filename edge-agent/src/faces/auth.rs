//! `/auth`: a session for whoever signs a nonce, and what becomes of it.

use std::sync::Arc;

use authguardian_proto::{
    credential::SessionToken,
    reason::{Problem, Reason},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{problem, rest};
use crate::{
    core::{Caller, Core, Peer, SessionInfo},
    upstream::SignedNonce,
};

const PADDED_OR_NOT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDED_OR_NOT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDED_OR_NOT);

/// `POST /auth/challenge`: a nonce for a key.
pub(super) async fn challenge(
    State(core): State<Arc<Core>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let challenged = async {
        let fields = fields(&body, &["api_key_id"])?;
        let key = api_key_id(&fields)?;
        core.challenge(&peer, key).await
    };
    respond(challenged.await.map(|challenge| {
        let body = json!({
            "nonce": STANDARD.encode(&challenge.nonce),
            "message": STANDARD.encode(&challenge.message),
            "expires_at": rfc3339(challenge.expires_at),
        });
        (StatusCode::OK, body)
    }))
}

/// `POST /auth/session`: a session for a signed nonce.
pub(super) async fn open(
    State(core): State<Arc<Core>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Response {
    let opened = async {
        let fields = fields(&body, &["api_key_id", "nonce", "signature"])?;
        let signed = SignedNonce {
            api_key_id: api_key_id(&fields)?,
            nonce: bytes(&fields, "nonce", 32)?,
            signature: bytes(&fields, "signature", 64)?,
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

fn made((info, token): (SessionInfo, SessionToken)) -> (StatusCode, Value) {
    let mut body = described(&info);
    body["session_token"] = json!(token.expose());
    (StatusCode::CREATED, body)
}

fn described(info: &SessionInfo) -> Value {
    let mut body = json!({
        "api_key_id": info.api_key_id,
        "agent_ids": info.agent_ids,
        "validator": info.validator,
        "zone": info.zone,
    });
    if let Some(id) = info.id {
        body["session_id"] = json!(id);
    }
    if let Some(end) = info.expires_at {
        body["expires_at"] = json!(rfc3339(end));
    }
    body
}

fn respond(outcome: Result<(StatusCode, Value), Problem>) -> Response {
    let (status, body) = match outcome {
        Ok(told) => told,
        Err(problem) => return problem::respond(&problem),
    };
    let mut response = Response::new(Body::from(body.to_string()));
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

/// The body's fields: these, and no others.
fn fields(body: &[u8], expected: &[&str]) -> Result<Map<String, Value>, Problem> {
    let fields = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) => {
            return Err(Problem::new(
                Reason::InvalidArgument,
                "expected a JSON object",
            ));
        }
        Err(error) => return Err(rest::malformed(&error)),
    };
    let is_unknown = |name: &&String| !expected.contains(&name.as_str());
    if let Some(unknown) = fields.keys().find(is_unknown) {
        let name: String = unknown.chars().take(64).collect();
        let detail = format!(
            "there is no such field; expected `{}`",
            expected.join("`, `")
        );
        return Err(Problem::invalid(name, detail));
    }
    Ok(fields)
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, Problem> {
    match fields.get(name) {
        None | Some(Value::Null) => Err(Problem::invalid(name, "is required")),
        Some(value) => value
            .as_str()
            .ok_or_else(|| Problem::invalid(name, "expected a string")),
    }
}

fn api_key_id(fields: &Map<String, Value>) -> Result<authguardian_proto::ids::ApiKeyId, Problem> {
    text(fields, "api_key_id")?
        .parse()
        .map_err(|error: authguardian_proto::ids::ParseIdError| {
            Problem::invalid("api_key_id", error.to_string())
        })
}

/// Exactly so many bytes, as base64 of either alphabet, padded or not.
fn bytes(fields: &Map<String, Value>, name: &str, count: usize) -> Result<Vec<u8>, Problem> {
    let text = text(fields, name)?.trim();
    let engine = if text.contains(['-', '_']) {
        URL_SAFE
    } else {
        PLAIN
    };
    engine
        .decode(text)
        .ok()
        .filter(|bytes| bytes.len() == count)
        .ok_or_else(|| Problem::invalid(name, format!("expected base64 of {count} bytes")))
}

fn rfc3339(time: OffsetDateTime) -> String {
    // times of this century, which always have that form
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, count: usize) -> Result<Vec<u8>, Problem> {
        let fields = json!({ "nonce": text });
        bytes(fields.as_object().unwrap(), "nonce", count)
    }

    #[test]
    fn base64_is_read_in_both_alphabets_padded_or_not() {
        let wanted = vec![0xfb, 0xff, 0xbf, 0x01];
        for text in ["+/+/AQ==", "+/+/AQ", "-_-_AQ==", "-_-_AQ", " -_-_AQ\n"] {
            assert_eq!(read(text, 4).unwrap(), wanted, "{text}");
        }
        for (text, count) in [("+_+_AQ", 4), ("AQ", 4), ("", 4), ("é", 4), ("AQI", 1)] {
            let problem = read(text, count).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("nonce"), "{text}");
        }
    }

    #[test]
    fn a_body_has_the_expected_fields_and_no_others() {
        let expected = ["api_key_id"];
        assert!(fields(b"{\"api_key_id\": 7}", &expected).is_ok());
        for (body, field) in [
            (&b"{\"api_key\": \"x\"}"[..], Some("api_key")),
            (b"[]", None),
            (b"{", None),
            (b"", None),
        ] {
            let problem = fields(body, &expected).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidArgument);
            assert_eq!(problem.field.as_deref(), field);
        }
        let of_another_kind = json!({ "api_key_id": 7 });
        let problem = api_key_id(of_another_kind.as_object().unwrap()).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("api_key_id"));
        assert!(api_key_id(&Map::new()).is_err());
    }
}
