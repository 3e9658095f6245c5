//! Servers that do nothing but answer: what the frameworks cost. Each is this
//! program once more, as a child.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use axum::serve::{Listener, ListenerExt};
use clap::{Args, ValueEnum};
use edge_agent::dial::ServerAddress;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    cpu::{self, Part},
    daemon::Daemon,
};

mod board;
mod budget;
pub(crate) mod grpc;
mod lines;
mod mcp;
mod message;
mod rest;
mod sse;
mod websocket;

/// Which server to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// axum, JSON in and out
    Rest,
    /// axum, JSON in and out as of a board
    Board,
    /// axum, JSON in and out as of a budget
    Budget,
    /// rmcp, one tool behind the edge's own guard
    Mcp,
    /// tonic, one unary call over mutual TLS
    Grpc,
    /// axum, messages in by POST, out by server-sent events
    Sse,
    /// axum, messages over WebSocket
    #[value(name = "websocket")]
    WebSocket,
    /// Messages on stdin and stdout
    Lines,
}

/// How the bench asks this program to be a server.
#[derive(Debug, Args)]
pub(crate) struct AsServer {
    /// Be a trivial server
    #[arg(long, hide = true)]
    pub(crate) serve: Option<Kind>,
    /// Where the guard asks about keys
    #[arg(long, hide = true, requires = "join_token")]
    server: Option<ServerAddress>,
    /// As which machine
    #[arg(long, hide = true)]
    join_token: Option<String>,
    /// Where its identity lies
    #[arg(long, hide = true)]
    data_dir: Option<PathBuf>,
}

/// The first line of a server's stdout.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How to be its client, where that takes certificates.
    pub(crate) credentials: Option<grpc::Credentials>,
}

impl AsServer {
    /// Serves until the bench ends.
    pub(crate) async fn run(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::Rest => rest::serve().await,
            Kind::Board => board::serve().await,
            Kind::Budget => budget::serve().await,
            Kind::Grpc => grpc::serve().await,
            Kind::Sse => sse::serve().await,
            Kind::WebSocket => websocket::serve().await,
            Kind::Lines => lines::serve().await,
            Kind::Mcp => {
                let server = self.server.as_ref().context("--server is missing")?;
                let token = self
                    .join_token
                    .as_ref()
                    .context("--join-token is missing")?;
                let dir = self.data_dir.as_ref().context("--data-dir is missing")?;
                mcp::serve(server, token, dir).await
            }
        }
    }
}

/// A running trivial server.
pub(crate) struct Trivial {
    daemon: Daemon,
    pub(crate) ready: Ready,
    _dir: tempfile::TempDir,
}

impl Trivial {
    /// Starts one that needs nobody else.
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        Self::spawn(kind, |_| {})
    }

    /// Starts the rmcp server, whose guard is a machine of this control plane.
    pub(crate) fn start_mcp(server: &ServerAddress, join_token: &str) -> Result<Self> {
        Self::spawn(Kind::Mcp, |command| {
            command.args(["--server", &server.to_string()]);
            command.args(["--join-token", join_token]);
        })
    }

    fn spawn(kind: Kind, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut daemon = daemon(kind, |command| {
            command.arg("--data-dir").arg(dir.path());
            configure(command);
        })?;
        let stdout = daemon.child.stdout.take().context("it has a stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("the trivial server said `{line}`"))?;
        Ok(Self {
            daemon,
            ready,
            _dir: dir,
        })
    }

    /// The process.
    pub(crate) fn part(&self) -> Part {
        self.daemon.part(cpu::TRIVIAL)
    }
}

/// One that answers lines.
pub(crate) fn lines() -> Result<Daemon> {
    daemon(Kind::Lines, |_| {})
}

fn daemon(kind: Kind, configure: impl FnOnce(&mut Command)) -> Result<Daemon> {
    let name = kind.to_possible_value().context("it has a name")?;
    Daemon::spawn(&std::env::current_exe()?, |command| {
        command.args(["--serve", name.get_name()]);
        command.stdout(Stdio::piped());
        configure(command);
    })
}

/// Listens, and tells so.
async fn ready() -> Result<impl Listener<Io = TcpStream, Addr = SocketAddr>> {
    let listener = listen().await?;
    tell_ready(&Ready {
        address: listener.local_addr()?,
        credentials: None,
    })?;
    Ok(listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    }))
}

async fn listen() -> Result<TcpListener> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?)
}

fn tell_ready(ready: &Ready) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(ready)?)?;
    Ok(stdout.flush()?)
}
