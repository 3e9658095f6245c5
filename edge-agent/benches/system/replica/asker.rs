//! Clients of an eventual board, by REST.

use std::{borrow::Cow, net::SocketAddr};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    http::Connection,
    keys::{Keys, VALUE},
    load::Client,
};

/// Merged from what all machines write; there on every installation.
pub(super) const BOARD: &str = "eventual";

/// What a client does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Reads,
    Writes,
}

impl Does {
    /// Where an edge does it.
    pub(super) fn at_an_edge(self) -> &'static str {
        match self {
            Self::Reads => "/mcp/tools/blackboard_read",
            Self::Writes => "/mcp/tools/blackboard_write",
        }
    }

    /// Where the bare handler does as if.
    pub(super) fn at_a_bare_handler(self) -> &'static str {
        match self {
            Self::Reads => "/read",
            Self::Writes => "/write",
        }
    }
}

/// One of many clients, on a connection of its own.
pub(super) struct Asker {
    connection: Connection,
    keys: Keys,
    does: Does,
}

/// What is looked at of an answer; a read tells a value, a write does not.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    value: Option<IgnoredAny>,
    revision: u64,
}

impl Asker {
    /// So many, at something that answers alike.
    pub(super) async fn open(
        count: usize,
        (server, path): (SocketAddr, &str),
        api_key: &str,
        does: Does,
        keys: &Keys,
    ) -> Result<Vec<Self>> {
        let bearer = format!("Bearer {api_key}");
        let headers = [("Authorization", bearer.as_str())];
        let mut askers = Vec::new();
        for number in 0..count {
            askers.push(Self {
                connection: Connection::open(server, path, &headers).await?,
                keys: keys.of_client(number),
                does,
            });
        }
        Ok(askers)
    }

    /// Asks about this key; how long the answer is.
    pub(super) async fn ask(&mut self, key: &str) -> Result<usize> {
        let asked = match self.does {
            Does::Reads => format!(r#"{{"board":"{BOARD}","key":"{key}"}}"#),
            Does::Writes => format!(r#"{{"board":"{BOARD}","key":"{key}","value":{VALUE}}}"#),
        };
        let told = self.connection.post(&asked).await?;
        let answer: Answer<'_> = serde_json::from_slice(told)
            .with_context(|| format!("not a result: {}", String::from_utf8_lossy(told)))?;
        let is_whole = answer.value.is_some() == (self.does == Does::Reads) && answer.revision > 0;
        ensure!(
            answer.key == key && is_whole,
            "another answer: {}",
            String::from_utf8_lossy(told)
        );
        Ok(told.len())
    }
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        let key = self.keys.next();
        self.ask(&key).await.map(drop)
    }
}
