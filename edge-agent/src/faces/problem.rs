//! Errors over HTTP: problem details (RFC 9457).

use authguardian_proto::reason::{Code, Problem, Reason};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

/// An error: problem details as in RFC 9457.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Details<'a> {
    /// The reason as a URN.
    #[serde(rename = "type")]
    kind: String,
    /// The reason in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A stable word for programs.
    reason: &'static str,
    /// A sentence for people: what was expected, or what to do next.
    detail: &'a str,
    /// The argument at fault, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// When to try again, whole seconds from now, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

/// A problem with the status of its reason.
pub(super) fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.reason.code().http())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    respond_with(status, problem)
}

/// A problem of HTTP itself, where the status says more than the reason.
pub(super) fn respond_with(status: StatusCode, problem: &Problem) -> Response {
    let reason = problem.reason;
    let answer = Details {
        kind: format!("urn:authguardian:reason:{reason}"),
        title: title(reason),
        status: status.as_u16(),
        reason: reason.as_str(),
        detail: &problem.detail,
        field: problem.field.as_deref(),
        retry_after_seconds: problem.retry_after_seconds,
    };
    // strings and numbers always become JSON
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    match reason.code() {
        Code::Unauthenticated => {
            let challenge = match reason {
                Reason::Unauthenticated => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        Code::RateLimited | Code::ResourceExhausted | Code::Unavailable => {
            let seconds = problem.retry_after_seconds.unwrap_or(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        _ => {}
    }
    response
}

/// For paths that do not exist.
pub(super) async fn no_such_path(uri: Uri) -> Response {
    not_found(format!("there is nothing at `{}`", uri.path()))
}

/// For the paths of a face that is switched off, by its key in `[faces]`.
pub(super) fn face_is_off(key: &str) -> Response {
    not_found(format!(
        "this face is off: the edge's configuration has `{key} = false` in `[faces]`"
    ))
}

/// For paths that take another method.
pub(super) async fn no_such_method() -> Response {
    let problem = Problem::new(Reason::InvalidArgument, "this path takes another method");
    respond_with(StatusCode::METHOD_NOT_ALLOWED, &problem)
}

/// For names in a path that do not exist.
pub(super) fn not_found(detail: String) -> Response {
    respond_with(
        StatusCode::NOT_FOUND,
        &Problem::new(Reason::InvalidArgument, detail),
    )
}

/// Refuses a body that says it is something else than JSON. What says nothing
/// passes, and so does what `curl --data` says of everything.
pub(super) fn needs_json(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    let taken = ["application/json", "application/x-www-form-urlencoded"];
    if taken.iter().any(|one| essence.eq_ignore_ascii_case(one)) {
        return Ok(());
    }
    let problem = Problem::invalid("Content-Type", "expected `application/json`");
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Err(Box::new(respond_with(status, &problem)))
}

/// A JSON-RPC error for a message that could not be taken.
pub(super) fn json_rpc(text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// `GRANT_NOT_FOUND` → `grant not found`.
fn title(reason: Reason) -> String {
    reason.as_str().to_ascii_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_problem_reads_as_rfc_9457() {
        let response = respond(&Problem::invalid("agent_id", "is required"));
        assert_eq!(response.status(), 400);
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            json!({
                "type": "urn:authguardian:reason:INVALID_ARGUMENT",
                "title": "invalid argument",
                "status": 400,
                "reason": "INVALID_ARGUMENT",
                "detail": "is required",
                "field": "agent_id",
            })
        );
    }

    #[test]
    fn a_missing_credential_is_challenged() {
        let challenge = |reason| {
            let response = respond(&Problem::new(reason, ""));
            (
                response.status().as_u16(),
                response.headers()[header::WWW_AUTHENTICATE].clone(),
            )
        };
        assert_eq!(
            challenge(Reason::Unauthenticated),
            (401, HeaderValue::from_static("Bearer"))
        );
        assert_eq!(
            challenge(Reason::ApiKeyRevoked),
            (
                401,
                HeaderValue::from_static("Bearer error=\"invalid_token\"")
            )
        );
        let later = respond(&Problem::new(Reason::Unavailable, ""));
        assert_eq!(later.headers()[header::RETRY_AFTER], "1");
        let wait = std::time::Duration::from_millis(2100);
        let limited = respond(&Problem::rate_limited("too often", wait));
        assert_eq!(limited.status(), 429);
        assert_eq!(limited.headers()[header::RETRY_AFTER], "3");
    }
}
