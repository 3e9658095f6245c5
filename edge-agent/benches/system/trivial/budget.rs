//! Bare axum: reads a JSON body like that of `request_allocation` or `report_spending`, and
//! answers with one like its result. Nothing is kept.

use anyhow::Result;
use axum::{Json, Router, routing::post};
use edge_agent::core::{ReportSpendingResult, RequestAllocationResult};
use serde::Deserialize;

use super::ready;

/// As many digits as there are left of the largest budget.
const REMAINING: u64 = 9_007_199_254_000_000;

pub(super) async fn serve() -> Result<()> {
    let router = Router::new()
        .route("/allocate", post(allocate))
        .route("/report", post(report));
    Ok(axum::serve(ready().await?, router).await?)
}

#[derive(Deserialize)]
struct Allocate {
    agent_id: String,
    task_id: String,
    tokens: u64,
}

#[derive(Deserialize)]
struct Report {
    agent_id: String,
    task_id: String,
    tokens: u64,
    reservation_id: String,
}

async fn allocate(Json(asked): Json<Allocate>) -> Json<RequestAllocationResult> {
    let is_whole = [&asked.agent_id, &asked.task_id]
        .iter()
        .all(|text| !text.is_empty());
    Json(allocation(if is_whole { asked.tokens } else { 0 }))
}

async fn report(Json(asked): Json<Report>) -> Json<ReportSpendingResult> {
    let is_whole = [&asked.agent_id, &asked.task_id, &asked.reservation_id]
        .iter()
        .all(|text| !text.is_empty());
    Json(spending(if is_whole { asked.tokens } else { 0 }))
}

/// As large as a real one.
pub(super) fn allocation(tokens: u64) -> RequestAllocationResult {
    RequestAllocationResult {
        granted: tokens,
        reservation_id: "rsv_0356ORP0BUzfPbWJfEKpjo".to_owned(),
        remaining: REMAINING,
        unit: "tokens".to_owned(),
        expires_at: Some("2026-11-23T10:30:00Z".to_owned()),
    }
}

/// As large as a real one.
pub(super) fn spending(tokens: u64) -> ReportSpendingResult {
    ReportSpendingResult {
        recorded: tokens,
        overdraft: 0,
        remaining: REMAINING,
        unit: "tokens".to_owned(),
    }
}
