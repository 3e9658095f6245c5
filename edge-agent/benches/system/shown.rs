//! Clients that show tokens to `validate_token`, over and over.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Result, ensure};

use crate::{
    load::Client,
    mcp,
    validity::{Validator, Validity, arguments},
};

/// Arguments of calls, one per token, taken in turn by all clients.
#[derive(Clone)]
pub(crate) struct Shown {
    arguments: Arc<[String]>,
    next: Arc<AtomicUsize>,
}

impl Shown {
    /// Of these tokens.
    pub(crate) fn new(tokens: &[String]) -> Self {
        Self {
            arguments: tokens.iter().map(|token| arguments(token)).collect(),
            next: Arc::default(),
        }
    }

    /// The next.
    pub(crate) fn next(&self) -> &str {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.arguments[next % self.arguments.len()]
    }

    /// So many clients by MCP without sessions, each on its own connection.
    pub(crate) async fn by_mcp(
        &self,
        count: usize,
        address: SocketAddr,
        api_key: &str,
    ) -> Result<Vec<ByMcp>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(ByMcp {
                caller: mcp::Caller::open(address, api_key, "validate_token").await?,
                shown: self.clone(),
            });
        }
        Ok(clients)
    }

    /// So many clients by REST, each on its own connection.
    pub(crate) async fn by_rest(
        &self,
        count: usize,
        address: SocketAddr,
        path: &str,
        api_key: &str,
    ) -> Result<Vec<ByRest>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            clients.push(ByRest {
                validator: Validator::open_at(address, path, api_key).await?,
                shown: self.clone(),
            });
        }
        Ok(clients)
    }
}

/// A client by MCP.
pub(crate) struct ByMcp {
    caller: mcp::Caller,
    shown: Shown,
}

impl Client for ByMcp {
    async fn call(&mut self) -> Result<()> {
        let validity: Validity = self.caller.call(self.shown.next()).await?;
        ensure!(validity.valid, "{:?}", validity.reason);
        Ok(())
    }
}

/// A client by REST.
pub(crate) struct ByRest {
    validator: Validator,
    shown: Shown,
}

impl Client for ByRest {
    async fn call(&mut self) -> Result<()> {
        let validity = self.validator.ask(self.shown.next()).await?;
        ensure!(validity.valid, "{:?}", validity.reason);
        Ok(())
    }
}
