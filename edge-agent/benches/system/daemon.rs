//! The two daemons as children of the bench, which the kernel kills with it.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use edge_agent::dial::ServerAddress;
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::cpu::{self, Part};

const EDGE: &str = env!("CARGO_BIN_EXE_edge-agent");
/// How long a start may take.
const DEADLINE: Duration = Duration::from_mins(1);
/// How often a ready file is looked for.
const POLL: Duration = Duration::from_millis(1);

/// A child that ends when this is dropped, or when the thread that spawned it
/// ends, however that happens.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    /// Some end with their stdin.
    stdin: Option<ChildStdin>,
}

impl Daemon {
    pub(crate) fn spawn(program: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTHGUARDIAN_")) {
            command.env_remove(name);
        }
        command.env("AUTHGUARDIAN_LOG__LEVEL", "error");
        command.stdin(Stdio::piped());
        configure(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start `{}`", program.display()))?;
        Ok(Self {
            stdin: child.stdin.take(),
            child,
        })
    }

    /// Its stdin and stdout, where that is a pipe too.
    pub(crate) fn pipes(&mut self) -> Result<(ChildStdin, ChildStdout)> {
        let pipes = self.stdin.take().zip(self.child.stdout.take());
        pipes.context("its stdin and stdout are pipes")
    }

    /// The process.
    pub(crate) fn part(&self, name: &'static str) -> Part {
        Part {
            name,
            pid: self.child.id(),
        }
    }

    /// Waits until there is something to be seen.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{what} has ended: {status}");
            }
            if began.elapsed() > DEADLINE {
                bail!("{what} is not ready after {DEADLINE:?}");
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control plane.
pub(crate) struct ControlPlane {
    daemon: Daemon,
    edge_grpc: SocketAddr,
}

impl ControlPlane {
    /// Starts the real binary and waits until it is ready.
    pub(crate) fn start(settings: &[String]) -> Result<Self> {
        let [http, edge_grpc] = free_addresses()?;
        let binary = Path::new(EDGE).with_file_name("control-plane");
        let mut daemon = Daemon::spawn(&binary, |command| {
            command.arg("serve");
            let listen = [
                format!("listen.http={http}"),
                format!("listen.edge_grpc={edge_grpc}"),
                "listen.admin_grpc=127.0.0.1:0".to_owned(),
            ];
            for setting in settings.iter().chain(&listen) {
                command.args(["--set", setting]);
            }
        })?;
        daemon.until("the control plane", || is_ready(http).then_some(()))?;
        Ok(Self { daemon, edge_grpc })
    }

    /// Where edges find it.
    pub(crate) fn server(&self) -> Result<ServerAddress> {
        Ok(format!("https://{}", self.edge_grpc).parse()?)
    }

    /// The same, as an address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.edge_grpc
    }

    /// The process.
    pub(crate) fn part(&self) -> Part {
        self.daemon.part(cpu::CONTROL_PLANE)
    }
}

/// An edge.
pub(crate) struct Edge {
    /// The HTTP faces.
    pub(crate) address: SocketAddr,
    daemon: Daemon,
    dir: TempDir,
    server: ServerAddress,
    settings: Settings,
}

/// Variables of the environment that set something.
pub(crate) type Settings = &'static [(&'static str, &'static str)];

/// What the ready file tells.
#[derive(Deserialize)]
struct Ready {
    edge_http: String,
}

impl Edge {
    /// Joins and runs the real binary, and waits until it is ready.
    pub(crate) fn start(
        server: ServerAddress,
        join_token: &str,
        settings: Settings,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (daemon, address) = Self::run(dir.path(), &server, Some(join_token), settings)?;
        Ok(Self {
            address,
            daemon,
            dir,
            server,
            settings,
        })
    }

    /// Ends it and starts it on the same directory, as any later start is;
    /// tells how long that took from spawning it until it was ready.
    pub(crate) fn start_again(&mut self) -> Result<Duration> {
        self.end()?;
        let began = Instant::now();
        (self.daemon, self.address) =
            Self::run(self.dir.path(), &self.server, None, self.settings)?;
        Ok(began.elapsed())
    }

    /// Ends it as a crash does.
    pub(crate) fn end(&mut self) -> Result<()> {
        let _ = self.daemon.child.kill();
        self.daemon.child.wait()?;
        match std::fs::remove_file(ready_file(self.dir.path())) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Where all that it keeps lies.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A bridge on stdin and stdout to it.
    pub(crate) fn bridge(&self, api_key: &str) -> Result<Daemon> {
        Daemon::spawn(Path::new(EDGE), |command| {
            command.arg("stdio").arg("--socket");
            command.arg(self.dir.path().join("edge.sock"));
            command.env("AUTHGUARDIAN_API_KEY", api_key);
            command.stdout(Stdio::piped());
        })
    }

    /// The process.
    pub(crate) fn part(&self) -> Part {
        self.daemon.part(cpu::EDGE)
    }

    fn run(
        dir: &Path,
        server: &ServerAddress,
        join_token: Option<&str>,
        settings: Settings,
    ) -> Result<(Daemon, SocketAddr)> {
        let ready_file = ready_file(dir);
        let mut daemon = Daemon::spawn(Path::new(EDGE), |command| {
            command.args([
                "run",
                "--exit-with-parent",
                "--listen",
                "127.0.0.1:0",
                "--listen-websocket",
                "127.0.0.1:0",
            ]);
            command.envs(settings.iter().copied());
            command.arg("--data-dir").arg(dir);
            command.arg("--ready-file").arg(&ready_file);
            command.args(["--server", &server.to_string()]);
            if let Some(token) = join_token {
                command.args(["--join-token", token]);
            }
        })?;
        let told = daemon.until("the edge", || std::fs::read(&ready_file).ok())?;
        let ready: Ready = serde_json::from_slice(&told)?;
        let address = ready.edge_http.trim_start_matches("http://").parse()?;
        Ok((daemon, address))
    }
}

fn ready_file(dir: &Path) -> PathBuf {
    dir.join("ready.json")
}

/// Whether `/readyz` answers with 200.
fn is_ready(address: SocketAddr) -> bool {
    use std::io::{Read, Write};
    let answer = || -> std::io::Result<[u8; 12]> {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    answer().is_ok_and(|status| &status == b"HTTP/1.1 200")
}

/// One that nobody listens at.
pub(crate) fn free_address() -> Result<SocketAddr> {
    free_addresses().map(|[address, _]| address)
}

/// Two that differ: both are taken at once.
fn free_addresses() -> Result<[SocketAddr; 2]> {
    let take = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (one, other) = (take()?, take()?);
    Ok([one.local_addr()?, other.local_addr()?])
}
