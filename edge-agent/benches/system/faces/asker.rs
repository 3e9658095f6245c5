//! Clients that call `validate_token` on any way.

use std::{
    net::SocketAddr,
    process::{ChildStdin, ChildStdout},
};

use anyhow::{Result, ensure};

use super::way::{Lines, Session, Sse, Way};
use crate::{
    load::Client,
    rpc::{self, Call},
    shown::Shown,
    validity::Validity,
    websocket::WebSocket,
};

/// What clients are made of.
#[derive(Clone, Copy)]
pub(super) struct Clients<'a> {
    pub(super) shown: &'a Shown,
    pub(super) key: &'a str,
}

impl Clients<'_> {
    /// By Streamable HTTP, each with a session.
    pub(super) async fn with_sessions(
        self,
        count: usize,
        server: SocketAddr,
    ) -> Result<Vec<Asker<Session>>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            askers.push(self.asker(Session::open(server, self.key).await?)?);
        }
        Ok(askers)
    }

    /// By HTTP+SSE.
    pub(super) async fn by_sse(self, count: usize, server: SocketAddr) -> Result<Vec<Asker<Sse>>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            askers.push(self.asker(Sse::open(server, self.key).await?)?);
        }
        Ok(askers)
    }

    /// By WebSocket.
    pub(super) async fn by_websocket(
        self,
        count: usize,
        server: SocketAddr,
    ) -> Result<Vec<Asker<WebSocket>>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            let socket = WebSocket::open(server, "/ws", self.key).await?;
            askers.push(self.asker(socket.begin().await?)?);
        }
        Ok(askers)
    }

    /// By the stdin and stdout of processes.
    pub(super) async fn by_lines(
        self,
        pipes: Vec<(ChildStdin, ChildStdout)>,
    ) -> Result<Vec<Asker<Lines>>> {
        let mut askers = Vec::new();
        for (stdin, stdout) in pipes {
            askers.push(self.asker(Lines::open(stdin, stdout).await?)?);
        }
        Ok(askers)
    }

    fn asker<W>(self, way: W) -> Result<Asker<W>> {
        Ok(Asker {
            way,
            message: Call::of("validate_token")?,
            shown: self.shown.clone(),
        })
    }
}

/// One client.
pub(super) struct Asker<W> {
    way: W,
    message: Call,
    shown: Shown,
}

impl<W: Way> Client for Asker<W> {
    async fn call(&mut self) -> Result<()> {
        let message = self.message.with(self.shown.next());
        let validity: Validity = rpc::result(self.way.ask(message).await?)?;
        ensure!(validity.valid, "{:?}", validity.reason);
        Ok(())
    }
}
