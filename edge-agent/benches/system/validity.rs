//! `validate_token` over REST, for sections that ask about single tokens.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::{
    http::Connection,
    system::{AGENT, RESOURCE_TYPE},
};

/// Where an edge answers it.
pub(crate) const PATH: &str = "/mcp/tools/validate_token";

/// What is wanted of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Validity {
    /// Whether the token is good.
    pub(crate) valid: bool,
    /// Why not.
    pub(crate) reason: Option<String>,
}

/// One connection to one edge.
pub(crate) struct Validator(Connection);

impl Validator {
    /// Connects.
    pub(crate) async fn open(edge: SocketAddr, api_key: &str) -> Result<Self> {
        Self::open_at(edge, PATH, api_key).await
    }

    /// Connects to something that answers alike.
    pub(crate) async fn open_at(server: SocketAddr, path: &str, api_key: &str) -> Result<Self> {
        let bearer = format!("Bearer {api_key}");
        let headers = [("Authorization", bearer.as_str())];
        Ok(Self(Connection::open(server, path, &headers).await?))
    }

    /// Asks with ready arguments.
    pub(crate) async fn ask(&mut self, arguments: &str) -> Result<Validity> {
        let body = self.0.post(arguments).await?;
        serde_json::from_slice(body)
            .with_context(|| format!("not a result: {}", String::from_utf8_lossy(body)))
    }
}

/// The arguments for a token, JSON text.
pub(crate) fn arguments(token: &str) -> String {
    json!({"token": token, "agent_id": AGENT, "resource_type": RESOURCE_TYPE}).to_string()
}
