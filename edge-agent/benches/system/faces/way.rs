//! The ways on which messages go to a server and come from it.

use std::{net::SocketAddr, process};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{ChildStdin, ChildStdout},
};

use crate::{
    http::{Connection, Events, data},
    rpc::{INITIALIZED, WITH_SESSIONS, initialize},
    websocket::WebSocket,
};

/// One way.
pub(crate) trait Way: Sized + Send + 'static {
    /// Sends a message that wants no answer.
    fn tell(&mut self, message: &str) -> impl Future<Output = Result<()>> + Send;

    /// Sends a message and waits for the next one of the server.
    fn ask(&mut self, message: &str) -> impl Future<Output = Result<&[u8]>> + Send;

    /// Begins the session.
    fn begin(mut self) -> impl Future<Output = Result<Self>> + Send {
        async {
            self.ask(&initialize()).await?;
            self.tell(INITIALIZED).await?;
            Ok(self)
        }
    }
}

/// Streamable HTTP with a session: one POST each.
pub(super) struct Session(Connection);

impl Session {
    /// Begins one.
    pub(super) async fn open(server: SocketAddr, api_key: &str) -> Result<Self> {
        let bearer = format!("Bearer {api_key}");
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Accept", "application/json, text/event-stream"),
        ];
        let mut connection = Connection::open(server, "/mcp", &headers).await?;
        connection.post(&initialize()).await?;
        let id = connection.told("mcp-session-id");
        let id = id.context("a session has an id")?.to_owned();
        connection.add_header("Mcp-Session-Id", &id)?;
        connection.add_header("MCP-Protocol-Version", WITH_SESSIONS)?;
        connection.post(INITIALIZED).await?;
        Ok(Self(connection))
    }
}

impl Way for Session {
    async fn tell(&mut self, message: &str) -> Result<()> {
        self.0.post(message).await.map(drop)
    }

    async fn ask(&mut self, message: &str) -> Result<&[u8]> {
        data(self.0.post(message).await?)
    }
}

/// HTTP+SSE: a stream of events, and a connection for what is posted.
pub(super) struct Sse {
    events: Events,
    posts: Connection,
}

impl Sse {
    /// Begins a session.
    pub(super) async fn open(server: SocketAddr, api_key: &str) -> Result<Self> {
        let bearer = format!("Bearer {api_key}");
        let headers = [("Authorization", bearer.as_str())];
        let stream = Connection::open(server, "/sse", &headers).await?;
        let mut events = stream.get_events().await?;
        let path = str::from_utf8(data(events.next().await?)?)?.to_owned();
        let posts = Connection::open(server, &path, &headers).await?;
        Self { events, posts }.begin().await
    }
}

impl Way for Sse {
    async fn tell(&mut self, message: &str) -> Result<()> {
        self.posts.post(message).await.map(drop)
    }

    async fn ask(&mut self, message: &str) -> Result<&[u8]> {
        self.posts.post(message).await?;
        data(self.events.next().await?)
    }
}

impl Way for WebSocket {
    async fn tell(&mut self, message: &str) -> Result<()> {
        self.send(message).await
    }

    async fn ask(&mut self, message: &str) -> Result<&[u8]> {
        self.send(message).await?;
        self.receive().await
    }
}

/// Lines to a process and from it.
pub(super) struct Lines {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Lines {
    /// Begins a session.
    pub(super) async fn open(to: process::ChildStdin, from: process::ChildStdout) -> Result<Self> {
        let lines = Self {
            to: ChildStdin::from_std(to)?,
            from: BufReader::new(ChildStdout::from_std(from)?),
            line: Vec::new(),
        };
        lines.begin().await
    }
}

impl Way for Lines {
    async fn tell(&mut self, message: &str) -> Result<()> {
        self.to.write_all(message.as_bytes()).await?;
        Ok(self.to.write_all(b"\n").await?)
    }

    async fn ask(&mut self, message: &str) -> Result<&[u8]> {
        self.tell(message).await?;
        self.line.clear();
        self.from.read_until(b'\n', &mut self.line).await?;
        ensure!(!self.line.is_empty(), "the process has ended");
        Ok(&self.line)
    }
}
