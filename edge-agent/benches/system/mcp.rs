//! Tool calls as MCP sends them without sessions (revision 2026-07-28), one
//! POST each.

use std::net::SocketAddr;

use anyhow::Result;
use serde::de::DeserializeOwned;

use crate::{
    http::Connection,
    rpc::{self, Call, WITHOUT_SESSIONS},
};

/// One connection that calls one tool.
pub(crate) struct Caller {
    connection: Connection,
    message: Call,
}

impl Caller {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr, api_key: &str, tool: &str) -> Result<Self> {
        let bearer = format!("Bearer {api_key}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", WITHOUT_SESSIONS),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", tool),
        ];
        Ok(Self {
            connection: Connection::open(address, "/mcp", &headers).await?,
            message: Call::alone(tool)?,
        })
    }

    /// Calls the tool with these arguments, JSON text, and returns what is
    /// wanted of its structured result.
    pub(crate) async fn call<T: DeserializeOwned>(&mut self, arguments: &str) -> Result<T> {
        let body = self.connection.post(self.message.with(arguments)).await?;
        rpc::result(body)
    }
}
