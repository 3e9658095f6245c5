//! Bare axum: reads a JSON body like that of `blackboard_read` or
//! `blackboard_write`, and answers with one like its result. Nothing is kept.

use anyhow::Result;
use axum::{Json, Router, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ready;

const MACHINE: &str = "mch_0000000000000000000000";
const VERSION: &str = "mch_0000000000000000000000.1:123456";
/// As many digits as one of a replica has.
const EPOCH: u64 = 1_234_567_890_123_456_789;
const REVISION: u64 = 123_456;

pub(super) async fn serve() -> Result<()> {
    let router = Router::new()
        .route("/read", post(read))
        .route("/write", post(write));
    Ok(axum::serve(ready().await?, router).await?)
}

#[derive(Deserialize)]
struct Read {
    board: String,
    key: String,
}

#[derive(Deserialize)]
struct Write {
    board: String,
    key: String,
    value: Box<RawValue>,
}

/// As large as a real answer to `blackboard_read`.
#[derive(Serialize)]
struct Told {
    board: String,
    key: String,
    value: Plan,
    revision: u64,
    writer: &'static str,
    machine_id: &'static str,
    written_at: &'static str,
    vector_clock: Clock,
    siblings: usize,
    epoch: u64,
    board_revision: u64,
    copies: u32,
}

/// As [`crate::keys::VALUE`].
#[derive(Serialize)]
struct Plan {
    task: &'static str,
    status: &'static str,
    owner: &'static str,
    progress: u32,
}

/// As large as a real answer to `blackboard_write`.
#[derive(Serialize)]
struct Written {
    board: String,
    key: String,
    revision: u64,
    previous_revision: u64,
    epoch: u64,
    version: &'static str,
    vector_clock: Clock,
    copies: u32,
}

/// Of one actor.
#[derive(Serialize)]
struct Clock {
    #[serde(rename = "mch_0000000000000000000000.1")]
    one: u64,
}

const CLOCK: Clock = Clock { one: REVISION };

async fn read(Json(asked): Json<Read>) -> Json<Told> {
    Json(Told {
        board: asked.board,
        key: asked.key,
        value: Plan {
            task: "reconcile",
            status: "running",
            owner: "data_analyst",
            progress: 42,
        },
        revision: REVISION,
        writer: "data_analyst",
        machine_id: MACHINE,
        written_at: "2026-11-23T10:30:00.123Z",
        vector_clock: CLOCK,
        siblings: 1,
        epoch: EPOCH,
        board_revision: REVISION,
        copies: 0,
    })
}

async fn write(Json(asked): Json<Write>) -> Json<Written> {
    let is_whole = !asked.value.get().is_empty();
    Json(Written {
        board: asked.board,
        key: asked.key,
        revision: REVISION,
        previous_revision: if is_whole { REVISION } else { 0 },
        epoch: EPOCH,
        version: VERSION,
        vector_clock: CLOCK,
        copies: 0,
    })
}
