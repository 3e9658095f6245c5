//! Redis as a peer: `INCRBY` on a counter that is kept in its log, one command at a time.
//! The little of its protocol that this needs stands here (RESP2).

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{SPENT, threads};
use crate::{
    args::Args,
    cpu,
    daemon::{Daemon, free_address},
    load::{self, Client, Outcome},
};

/// How long a start may take.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
const KEY: &str = "budget:bench";

/// When its log is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// About a second later: its own default.
    EverySecond,
    /// Before the answer.
    Always,
}

impl Sync {
    fn name(self) -> &'static str {
        match self {
            Self::EverySecond => "everysec",
            Self::Always => "always",
        }
    }
}

/// A server on a port of its own.
pub(super) struct Redis {
    daemon: Daemon,
    address: SocketAddr,
    _dir: TempDir,
}

/// One of many clients, on a connection of its own.
struct Asker {
    stream: tokio::net::TcpStream,
    command: String,
    received: Vec<u8>,
}

/// The only client, which can do nothing but wait.
struct Alone {
    stream: TcpStream,
    command: String,
}

impl Redis {
    /// Starts one that keeps its log in a directory of its own.
    pub(super) fn start() -> Result<Self> {
        let (dir, address) = (tempfile::tempdir()?, free_address()?);
        let mut daemon = Daemon::spawn(Path::new("redis-server"), |command| {
            command.args(["--bind", &address.ip().to_string()]);
            command.args(["--port", &address.port().to_string()]);
            command.arg("--dir").arg(dir.path());
            command.args(["--appendonly", "yes", "--save", ""]);
            command.args(["--loglevel", "warning", "--logfile", "redis.log"]);
        })?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_ended = daemon.child.try_wait()?;
            ensure!(
                has_ended.is_none() && began.elapsed() < DEADLINE,
                "`redis-server` does not listen; `deploy/scripts/ensure redis` installs it"
            );
            thread::sleep(POLL);
        }
        Ok(Self {
            daemon,
            address,
            _dir: dir,
        })
    }

    /// Counts by so many clients, none of which sends a command before the last is answered.
    pub(super) fn run(&self, args: &Args, sync: Sync, clients: usize) -> Result<Outcome> {
        let told = self
            .alone()?
            .ask(&command(&["CONFIG", "SET", "appendfsync", sync.name()]))?;
        ensure!(told == b"+OK\r\n", "{}", String::from_utf8_lossy(&told));
        let before = self.counted()?;
        let plan = args.plan(&[self.daemon.part(cpu::REDIS)]);
        let outcome = if clients == 1 {
            let mut alone = self.alone()?;
            threads::run(&plan, cpu::LOAD_GENERATOR, vec![move || alone.count()])?
        } else {
            load::run(&plan, || Asker::open(clients, self.address))?
        };
        let counted = self.counted()? - before;
        ensure!(
            counted == outcome.answers * SPENT,
            "Redis counted {counted} in {} commands",
            outcome.answers
        );
        Ok(outcome)
    }

    fn counted(&self) -> Result<u64> {
        number(&self.alone()?.ask(&command(&["INCRBY", KEY, "0"]))?)
    }

    fn alone(&self) -> Result<Alone> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        Ok(Alone {
            stream,
            command: count(),
        })
    }
}

impl Alone {
    fn count(&mut self) -> Result<()> {
        let command = std::mem::take(&mut self.command);
        let told = self.ask(&command)?;
        self.command = command;
        number(&told).map(drop)
    }

    fn ask(&mut self, command: &str) -> Result<Vec<u8>> {
        self.stream.write_all(command.as_bytes())?;
        let (mut told, mut chunk) = (Vec::with_capacity(64), [0; 64]);
        while !told.ends_with(b"\r\n") {
            let read = self.stream.read(&mut chunk)?;
            ensure!(read > 0, "Redis has closed the connection");
            told.extend_from_slice(&chunk[..read]);
        }
        Ok(told)
    }
}

impl Asker {
    async fn open(count: usize, address: SocketAddr) -> Result<Vec<Self>> {
        let mut askers = Vec::new();
        for _ in 0..count {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            askers.push(Self {
                stream,
                command: self::count(),
                received: Vec::with_capacity(64),
            });
        }
        Ok(askers)
    }
}

impl Client for Asker {
    async fn call(&mut self) -> Result<()> {
        self.stream.write_all(self.command.as_bytes()).await?;
        self.received.clear();
        while !self.received.ends_with(b"\r\n") {
            let read = self.stream.read_buf(&mut self.received).await?;
            ensure!(read > 0, "Redis has closed the connection");
        }
        number(&self.received).map(drop)
    }
}

fn count() -> String {
    command(&["INCRBY", KEY, &SPENT.to_string()])
}

/// An array of bulk strings.
fn command(words: &[&str]) -> String {
    let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    let words = words.iter().map(bulk).collect::<Vec<_>>();
    format!("*{}\r\n{}", words.len(), words.concat())
}

fn number(told: &[u8]) -> Result<u64> {
    let text = str::from_utf8(told)?;
    let number = text
        .strip_prefix(':')
        .and_then(|text| text.trim_end().parse().ok());
    number.with_context(|| format!("not a number: {text}"))
}
