//! One message of JSON-RPC in, one out, as bare as it can be.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::rest::{Arguments, result};

#[derive(Deserialize)]
struct Message {
    /// Notifications have none.
    id: Option<u64>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    arguments: Option<Arguments>,
}

/// As large as a real answer to `validate_token`; `None` where none is wanted.
pub(super) fn answer(message: &[u8]) -> Result<Option<String>> {
    let Message { id, params } = serde_json::from_slice(message)?;
    let Some(id) = id else {
        return Ok(None);
    };
    let result = result(params.arguments.is_some_and(|call| call.are_whole()));
    let text = serde_json::to_string(&result)?;
    let result = json!({
        "content": [{"type": "text", "text": text}],
        "structuredContent": result,
        "isError": false,
    });
    Ok(Some(
        json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
    ))
}
