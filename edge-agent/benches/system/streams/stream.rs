//! One stream, opened and subscribed.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};

use crate::{
    http::{Connection, Events, data, position},
    rpc::{INITIALIZED, initialize, subscribe},
    websocket::WebSocket,
};

const RESOURCE: &str = "grants://active";

/// Which way messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Sse,
    WebSocket,
    Events,
}

/// An open stream of one kind.
pub(super) enum Stream {
    Sse(Events),
    WebSocket(WebSocket),
    Events(Events),
}

impl Kind {
    /// As in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sse => "HTTP+SSE",
            Self::WebSocket => "WebSocket",
            Self::Events => "/events",
        }
    }

    /// What one may take of the edge's memory. The queues and the loop of a
    /// session in rmcp are 32 KiB of it, the buffers of a connection in hyper 16.
    pub(super) fn bound_kib(self) -> f64 {
        match self {
            Self::Sse => 80.0,
            Self::WebSocket => 64.0,
            Self::Events => 40.0,
        }
    }
}

/// Opens streams, one after the other.
pub(super) struct Opener {
    edge: SocketAddr,
    api_key: String,
    /// For what is posted to streams.
    posts: Connection,
}

impl Opener {
    pub(super) async fn new(edge: SocketAddr, api_key: &str) -> Result<Self> {
        Ok(Self {
            edge,
            api_key: api_key.to_owned(),
            posts: connect(edge, api_key, "/messages").await?,
        })
    }

    /// A stream that hears what happens to the agent's grants from now on.
    pub(super) async fn open(&mut self, kind: Kind) -> Result<Stream> {
        match kind {
            Kind::Sse => self.sse().await.map(Stream::Sse),
            Kind::WebSocket => self.websocket().await.map(Stream::WebSocket),
            Kind::Events => self.events().await.map(Stream::Events),
        }
    }

    async fn sse(&mut self) -> Result<Events> {
        let stream = connect(self.edge, &self.api_key, "/sse").await?;
        let mut events = stream.get_events().await?;
        let path = str::from_utf8(data(events.next().await?)?)?.to_owned();
        self.posts.go_to(&path);
        self.posts.post(&initialize()).await?;
        check(data(events.next().await?)?)?;
        self.posts.post(INITIALIZED).await?;
        self.posts.post(&subscribe(RESOURCE)).await?;
        check(data(events.next().await?)?)?;
        Ok(events)
    }

    async fn websocket(&self) -> Result<WebSocket> {
        let mut socket = WebSocket::open(self.edge, "/ws", &self.api_key).await?;
        socket.send(&initialize()).await?;
        check(socket.receive().await?)?;
        socket.send(INITIALIZED).await?;
        socket.send(&subscribe(RESOURCE)).await?;
        check(socket.receive().await?)?;
        Ok(socket)
    }

    async fn events(&self) -> Result<Events> {
        let stream = connect(self.edge, &self.api_key, "/events").await?;
        let mut events = stream.get_events().await?;
        // how soon to come again, then where it begins
        while !events.next().await?.starts_with(b"id: ") {}
        Ok(events)
    }
}

async fn connect(edge: SocketAddr, api_key: &str, path: &str) -> Result<Connection> {
    let bearer = format!("Bearer {api_key}");
    Connection::open(edge, path, &[("Authorization", &bearer)]).await
}

fn check(answer: &[u8]) -> Result<()> {
    let is_result = position(answer, b"\"result\"").is_some();
    ensure!(is_result, "{}", String::from_utf8_lossy(answer));
    Ok(())
}

impl Stream {
    /// Waits until it is told of a revocation.
    pub(super) async fn told(&mut self) -> Result<()> {
        loop {
            let (message, wanted) = match self {
                Self::Sse(events) => (events.next().await?, UPDATED),
                Self::WebSocket(socket) => (socket.receive().await?, UPDATED),
                Self::Events(events) => (events.next().await?, REVOKED),
            };
            if position(message, wanted).is_some() {
                return Ok(());
            }
            if position(message, b"LAGGED").is_some() {
                bail!("a stream lagged");
            }
        }
    }
}

const UPDATED: &[u8] = b"notifications/resources/updated";
const REVOKED: &[u8] = b"event: grant.revoked";
