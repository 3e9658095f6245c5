//! The http listener: health, metrics and public keys, in clear text. Every
//! route stands here.

mod health;
mod jwks;

use std::{fmt, sync::Arc};

use authguardian_proto::reason::Problem;
use axum::{
    Router,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use futures::future::BoxFuture;
use serde_json::json;

use crate::{
    error,
    metrics::{self, Metrics},
};

/// Asks whether calls would be served now: names every check, with what is
/// wrong where something is. Called for each request, so it has to be cheap
/// and bounded in time.
pub type ReadinessProbe = Arc<dyn Fn() -> BoxFuture<'static, Vec<Check>> + Send + Sync>;

/// Gives the text of the JWK set (RFC 7517) that grant tokens are checked with.
pub type JwksSource = Arc<dyn Fn() -> BoxFuture<'static, error::Result<String>> + Send + Sync>;

/// One thing that has to be well for calls to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, such as `database`.
    pub name: &'static str,
    /// What is wrong, for people; `None` when all is well.
    pub problem: Option<String>,
}

/// What the routes ask.
#[derive(Clone)]
pub struct HttpState {
    /// For `/readyz`.
    pub readiness: ReadinessProbe,
    /// For `/.well-known/jwks.json`.
    pub jwks: JwksSource,
    /// For `/metrics`.
    pub metrics: Metrics,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpState")
    }
}

/// The routes of the http listener.
pub fn router(state: HttpState) -> Router {
    let metrics = state.metrics.clone();
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(async move || encode_metrics(&metrics)))
        .route("/.well-known/jwks.json", get(jwks::jwks))
        .fallback(async || status_problem(StatusCode::NOT_FOUND, "there is nothing here"))
        .method_not_allowed_fallback(async || {
            status_problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "only `GET` and `HEAD` are served here",
            )
        })
        .with_state(state)
}

fn encode_metrics(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => status_problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the figures cannot be written",
        ),
    }
}

/// A problem of our own as `application/problem+json` (RFC 9457).
fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.reason.code().http())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": problem.detail,
        "reason": problem.reason.as_str(),
    });
    problem_json(status, &body)
}

/// A problem of HTTP itself, which has no reason of ours.
fn status_problem(status: StatusCode, detail: &str) -> Response {
    let body =
        json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    problem_json(status, &body)
}

fn problem_json(status: StatusCode, body: &serde_json::Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/problem+json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use authguardian_proto::reason::Reason;
    use axum::{body::Body, http::Request};
    use futures::FutureExt;
    use tower::ServiceExt;

    use super::*;

    const JWKS: &str = r#"{"keys":[]}"#;

    fn well() -> HttpState {
        HttpState {
            readiness: Arc::new(|| {
                async {
                    vec![Check {
                        name: "database",
                        problem: None,
                    }]
                }
                .boxed()
            }),
            jwks: Arc::new(|| async { Ok(JWKS.to_owned()) }.boxed()),
            metrics: Metrics::new(time::OffsetDateTime::UNIX_EPOCH),
        }
    }

    async fn get(state: HttpState, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
        ask(state, Request::get(path).body(Body::empty()).unwrap()).await
    }

    async fn ask(
        state: HttpState,
        request: Request<Body>,
    ) -> (StatusCode, axum::http::HeaderMap, String) {
        let response = router(state).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        (
            parts.status,
            parts.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn readiness_names_what_is_wrong() {
        let (status, _, body) = get(well(), "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            told,
            json!({ "ready": true, "checks": { "database": "ok" } })
        );

        let mut ill = well();
        ill.readiness = Arc::new(|| {
            async {
                vec![Check {
                    name: "database",
                    problem: Some("gone".into()),
                }]
            }
            .boxed()
        });
        let (status, _, body) = get(ill.clone(), "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            told,
            json!({ "ready": false, "checks": { "database": "gone" } })
        );
        assert_eq!(
            get(ill, "/livez").await.0,
            StatusCode::OK,
            "an ill database is no reason to be killed"
        );
    }

    #[tokio::test]
    async fn the_key_set_can_be_cached_and_asked_for_again_cheaply() {
        let (status, headers, body) = get(well(), "/.well-known/jwks.json").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, JWKS));
        assert_eq!(headers[header::CONTENT_TYPE], "application/jwk-set+json");
        assert!(
            headers[header::CACHE_CONTROL]
                .to_str()
                .unwrap()
                .contains("max-age=")
        );

        let again = Request::get("/.well-known/jwks.json")
            .header(header::IF_NONE_MATCH, &headers[header::ETAG])
            .body(Body::empty())
            .unwrap();
        let (status, _, body) = ask(well(), again).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    }

    #[tokio::test]
    async fn a_missing_key_set_is_a_problem_with_its_reason() {
        let mut state = well();
        state.jwks =
            Arc::new(|| async { Err(error::Error::new(Reason::Unavailable, "not now")) }.boxed());
        let (status, headers, body) = get(state, "/.well-known/jwks.json").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(body.contains(r#""reason":"UNAVAILABLE""#), "{body}");
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, headers, body) = get(well(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[header::CONTENT_TYPE], metrics::CONTENT_TYPE);
        assert!(body.ends_with("# EOF\n"));
    }

    #[tokio::test]
    async fn everything_else_is_a_problem_in_json() {
        let (status, headers, body) = get(well(), "/.well-known/oauth-authorization-server").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert!(body.contains(r#""status":404"#), "{body}");
        let post = Request::post("/livez").body(Body::empty()).unwrap();
        assert_eq!(ask(well(), post).await.0, StatusCode::METHOD_NOT_ALLOWED);
    }
}
