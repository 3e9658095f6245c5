//! Bare axum: reads a JSON body like that of `validate_token` and answers with
//! one like its result.

use anyhow::Result;
use axum::{Json, Router, routing::post};
use edge_agent::core::ValidateTokenResult;
use serde::Deserialize;

use super::ready;

/// Of a call.
#[derive(Deserialize)]
pub(super) struct Arguments {
    token: String,
    agent_id: String,
    resource_type: String,
}

pub(super) async fn serve() -> Result<()> {
    let router = Router::new().route("/", post(answer));
    Ok(axum::serve(ready().await?, router).await?)
}

async fn answer(Json(arguments): Json<Arguments>) -> Json<ValidateTokenResult> {
    Json(result(arguments.are_whole()))
}

impl Arguments {
    pub(super) fn are_whole(&self) -> bool {
        [&self.token, &self.agent_id, &self.resource_type]
            .iter()
            .all(|argument| !argument.is_empty())
    }
}

/// As large as a real one.
pub(super) fn result(valid: bool) -> ValidateTokenResult {
    ValidateTokenResult {
        valid,
        reason: None,
        grant_id: Some("grt_019ab0f3-7d6e-7c59-9d10-0a1b2c3d4e5f".to_owned()),
        expires_at: Some("2026-11-23T10:30:00Z".to_owned()),
        restrictions: Some(vec!["max_records:100".to_owned(), "read_only".to_owned()]),
        scope: None,
        staleness_ms: 0,
    }
}
