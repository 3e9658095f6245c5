//! Tool calls as MCP sends them without sessions (revision 2026-07-28), one
//! POST each.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::http::Connection;

const REVISION: &str = "2026-07-28";

/// One connection that calls one tool.
pub(crate) struct Caller {
    connection: Connection,
    /// The message around the arguments.
    before: String,
    after: String,
    sent: String,
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

impl Caller {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr, api_key: &str, tool: &str) -> Result<Self> {
        let bearer = format!("Bearer {api_key}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", REVISION),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", tool),
        ];
        let message = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {
                "name": tool,
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": REVISION,
                    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
                "arguments": "ARGUMENTS",
            },
        });
        let message = message.to_string();
        let (before, after) = message
            .split_once("\"ARGUMENTS\"")
            .context("the message has arguments")?;
        Ok(Self {
            connection: Connection::open(address, "/mcp", &headers).await?,
            before: before.to_owned(),
            after: after.to_owned(),
            sent: String::new(),
        })
    }

    /// Calls the tool with these arguments, JSON text, and returns what is
    /// wanted of its structured result.
    pub(crate) async fn call<T: DeserializeOwned>(&mut self, arguments: &str) -> Result<T> {
        self.sent.clear();
        self.sent.push_str(&self.before);
        self.sent.push_str(arguments);
        self.sent.push_str(&self.after);
        let body = self.connection.post(&self.sent).await?;
        let message: Option<Message<T>> = serde_json::from_slice(body).ok();
        message
            .and_then(|message| message.result?.structured_content)
            .with_context(|| format!("not a result: {}", String::from_utf8_lossy(body)))
    }
}
