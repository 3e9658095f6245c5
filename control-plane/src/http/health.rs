//! `/livez`: the process turns. `/readyz`: calls would be served.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::HttpState;

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

pub(super) async fn livez() -> Response {
    (NO_STORE, Json(json!({ "live": true }))).into_response()
}

pub(super) async fn readyz(State(state): State<HttpState>) -> Response {
    let checks = (state.readiness)().await;
    let ready = checks.iter().all(|check| check.problem.is_none());
    let checks: Map<_, _> = checks
        .into_iter()
        .map(|check| {
            (
                check.name.to_owned(),
                Value::String(check.problem.unwrap_or_else(|| "ok".to_owned())),
            )
        })
        .collect();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        NO_STORE,
        Json(json!({ "ready": ready, "checks": checks })),
    )
        .into_response()
}
