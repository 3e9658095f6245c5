//! Messages of MCP, as a client sends and reads them.

use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The last revision with sessions.
pub(crate) const WITH_SESSIONS: &str = "2025-11-25";
/// The revision without.
pub(crate) const WITHOUT_SESSIONS: &str = "2026-07-28";

/// Ends the beginning of a session.
pub(crate) const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// Begins a session.
pub(crate) fn initialize() -> String {
    let params = json!({
        "protocolVersion": WITH_SESSIONS,
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    });
    request("initialize", &params)
}

/// Wants to hear when a resource changes.
pub(crate) fn subscribe(uri: &str) -> String {
    request("resources/subscribe", &json!({ "uri": uri }))
}

fn request(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

/// Calls of one tool.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The message around the arguments.
    before: String,
    after: String,
    whole: String,
}

impl Call {
    /// Within a session.
    pub(crate) fn of(tool: &str) -> Result<Self> {
        Self::new(&json!({"name": tool, "arguments": "ARGUMENTS"}))
    }

    /// Without one: the message says it all.
    pub(crate) fn alone(tool: &str) -> Result<Self> {
        Self::new(&json!({
            "name": tool,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": WITHOUT_SESSIONS,
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
            "arguments": "ARGUMENTS",
        }))
    }

    fn new(params: &Value) -> Result<Self> {
        let message = request("tools/call", params);
        let (before, after) = message
            .split_once("\"ARGUMENTS\"")
            .context("the message has arguments")?;
        Ok(Self {
            before: before.to_owned(),
            after: after.to_owned(),
            whole: String::new(),
        })
    }

    /// With these arguments, JSON text.
    pub(crate) fn with(&mut self, arguments: &str) -> &str {
        self.whole.clear();
        self.whole.push_str(&self.before);
        self.whole.push_str(arguments);
        self.whole.push_str(&self.after);
        &self.whole
    }
}

#[derive(Deserialize)]
struct Message<T> {
    result: Option<CallResult<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<T> {
    structured_content: Option<T>,
}

/// What is wanted of the structured result of a call.
pub(crate) fn result<T: DeserializeOwned>(answer: &[u8]) -> Result<T> {
    let message: Option<Message<T>> = serde_json::from_slice(answer).ok();
    message
        .and_then(|message| message.result?.structured_content)
        .with_context(|| format!("not a result: {}", String::from_utf8_lossy(answer)))
}
