//! The two daemons as children of the test, at addresses that survive a
//! restart.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::wait::{until, until_async};

const EDGE: &str = env!("CARGO_BIN_EXE_edge-agent");

/// A control plane.
pub(crate) struct ControlPlane {
    /// Where edges find it.
    pub(crate) edge_grpc: SocketAddr,
    http: SocketAddr,
    settings: Vec<String>,
    child: Child,
}

impl ControlPlane {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(database_url: &str, master_key: &Path) -> Self {
        Self::start_with(&[format!("database.url={database_url}")], master_key).await
    }

    /// Starts one with these settings of its database, each `section.key=value`.
    pub(crate) async fn start_with(database: &[String], master_key: &Path) -> Self {
        let (http, edge_grpc) = (free_address(), free_address());
        let mut settings = database.to_vec();
        settings.extend([
            format!("identity.master_key_file={}", master_key.display()),
            format!("listen.http={http}"),
            format!("listen.edge_grpc={edge_grpc}"),
            format!("listen.admin_grpc={}", free_address()),
        ]);
        let child = Self::spawn(&settings);
        let mut this = Self {
            edge_grpc,
            http,
            settings,
            child,
        };
        this.ready().await;
        this
    }

    /// Where edges find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.edge_grpc)
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Starts another at the same address.
    pub(crate) async fn start_again(&mut self) {
        self.child = Self::spawn(&self.settings);
        self.ready().await;
    }

    fn spawn(settings: &[String]) -> Child {
        let binary = Path::new(EDGE).with_file_name("control-plane");
        assert!(
            binary.is_file(),
            "`{}` has to be built first",
            binary.display()
        );
        let mut command = command(&binary);
        command.arg("serve");
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).spawn().unwrap()
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&mut self) {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = format!("http://{}/readyz", self.http);
        let child = std::cell::RefCell::new(&mut self.child);
        until_async("the control plane is ready", async || {
            let ended = child.borrow_mut().try_wait().unwrap();
            assert!(ended.is_none(), "the control plane has ended");
            let answer = http.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }
}

/// An edge.
pub(crate) struct Edge {
    pub(crate) url: String,
    address: SocketAddr,
    servers: Vec<String>,
    dir: TempDir,
    child: Child,
}

impl Edge {
    /// Joins and runs one and waits until it is ready.
    pub(crate) async fn start(server: &str, join_token: &str) -> Self {
        Self::start_at(&[server.to_owned()], join_token).await
    }

    /// One that knows several control planes.
    pub(crate) async fn start_at(servers: &[String], join_token: &str) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let child = Self::spawn(dir.path(), address, servers, Some(join_token));
        let mut this = Self {
            url: format!("http://{address}"),
            address,
            servers: servers.to_owned(),
            dir,
            child,
        };
        this.ready().await;
        this
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops it where it is, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// What it keeps.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts another on the same directory and address.
    pub(crate) async fn start_again(&mut self) {
        std::fs::remove_file(self.ready_file()).unwrap();
        self.child = Self::spawn(self.dir.path(), self.address, &self.servers, None);
        self.ready().await;
    }

    fn spawn(
        dir: &Path,
        listen: SocketAddr,
        servers: &[String],
        join_token: Option<&str>,
    ) -> Child {
        let mut command = command(Path::new(EDGE));
        command.arg("run").arg("--data-dir").arg(dir);
        command.arg("--ready-file").arg(dir.join(READY_FILE));
        for server in servers {
            command.args(["--server", server]);
        }
        command.args(["--listen", &listen.to_string(), "--listen-websocket", ""]);
        command.arg("--exit-with-parent").stdin(Stdio::piped());
        if let Some(join_token) = join_token {
            command.args(["--join-token", join_token]);
        }
        command.spawn().unwrap()
    }

    async fn ready(&mut self) {
        let ready_file = self.ready_file();
        until("the edge is ready", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the edge has ended");
            ready_file.exists()
        })
        .await;
        let told: Value = serde_json::from_slice(&std::fs::read(ready_file).unwrap()).unwrap();
        assert_eq!(told["edge_http"], self.url);
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.path().join(READY_FILE)
    }
}

const READY_FILE: &str = "ready.json";

/// A daemon that the kernel kills when this thread ends, even if the test is
/// itself killed.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTHGUARDIAN_")) {
        command.env_remove(name);
    }
    // outages are what these tests are about
    command.env("AUTHGUARDIAN_LOG__LEVEL", "error");
    command.kill_on_drop(true);
    command
}

/// A port below those that the kernel gives to outgoing connections: one of
/// them could take the place of a daemon that is just being started again.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(16);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}
