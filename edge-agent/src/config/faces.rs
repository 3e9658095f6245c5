//! `[faces]`: which of its faces the edge shows.

use serde::{Deserialize, Serialize};

/// Which of its faces the edge shows, on every listener; one that is off answers `404`.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is the switch of one face"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faces {
    /// `/mcp`: MCP over Streamable HTTP; `edge-agent stdio` comes through it.
    pub streamable_http: bool,
    /// `GET /sse` and `POST /messages`: MCP over HTTP with SSE, for old clients.
    pub sse: bool,
    /// `/ws`: MCP over WebSocket, which is no transport of the specification.
    pub websocket: bool,
    /// `/mcp/tools/…` and `/mcp/resources/…`: tools and resources without MCP;
    /// the verbs of `edge-agent` come through it.
    pub rest: bool,
    /// `GET /events`: what changes, as server-sent events.
    pub events: bool,
}

impl Default for Faces {
    fn default() -> Self {
        Self {
            streamable_http: true,
            sse: true,
            websocket: true,
            rest: true,
            events: true,
        }
    }
}
