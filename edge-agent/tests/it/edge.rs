//! The real edge binary, as a child of the test, and a client of it.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpSocket,
    process::{Child, Command},
};

use crate::{
    rig::{ControlPlane, JUSTIFICATION},
    wait::{DEADLINE, until, until_async},
};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_edge-agent");

/// A running edge; gone when it is dropped.
pub(crate) struct Edge {
    pub(crate) url: String,
    /// WebSocket alone.
    pub(crate) ws: String,
    pub(crate) socket: PathBuf,
    pub(crate) dir: TempDir,
    launch: Launch,
    child: Child,
}

/// See [`Edge::in_use`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct InUse {
    pub(crate) resident_kib: u64,
    pub(crate) files: usize,
    pub(crate) tasks: u64,
}

/// How an edge is run.
#[derive(Clone, Default)]
pub(crate) struct Launch {
    /// Control planes, in the order in which they are tried.
    pub(crate) servers: Vec<String>,
    /// Variables of its environment, which win over those of the tests.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Its configuration file.
    pub(crate) config: Option<PathBuf>,
    /// Another program than `edge-agent`, which takes the same arguments.
    pub(crate) program: Option<&'static str>,
    /// Where its log goes, instead of to the test's own.
    pub(crate) log: Option<PathBuf>,
}

impl Launch {
    /// With these control planes.
    pub(crate) fn at(servers: &[String]) -> Self {
        Self {
            servers: servers.to_vec(),
            ..Self::default()
        }
    }

    fn spawn(&self, dir: &Path, token: Option<&str>, listen: &str) -> Child {
        let mut command = command_of(self.program.unwrap_or(BINARY));
        command
            .arg("run")
            .arg("--data-dir")
            .arg(dir)
            .arg("--ready-file")
            .arg(dir.join("ready.json"));
        command.args(["--listen", listen, "--exit-with-parent"]);
        command.args(["--listen-websocket", "127.0.0.1:0"]);
        for server in &self.servers {
            command.args(["--server", server]);
        }
        if let Some(token) = token {
            command.args(["--join-token", token]);
        }
        if let Some(config) = &self.config {
            command.arg("--config").arg(config);
        }
        command.envs(self.environment.iter().cloned());
        if let Some(log) = &self.log {
            command.stderr(File::create(log).unwrap());
        }
        command.stdin(Stdio::piped()).spawn().unwrap()
    }
}

impl Edge {
    /// Joins and runs an edge, and waits until it is ready.
    pub(crate) async fn start(control_plane: &ControlPlane, machine: &str) -> Self {
        let launch = Launch::at(&[control_plane.url()]);
        Self::start_with(control_plane, machine, launch).await
    }

    /// Joins and runs an edge in this way, and waits until it is ready.
    pub(crate) async fn start_with(
        control_plane: &ControlPlane,
        machine: &str,
        launch: Launch,
    ) -> Self {
        let token = control_plane.join_token(machine).await;
        let dir = tempfile::tempdir().unwrap();
        Self::run(dir, launch, Some(&token), "127.0.0.1:0").await
    }

    /// Joins with this token and runs, and waits until it is ready.
    pub(crate) async fn join(control_plane: &ControlPlane, token: &str) -> Self {
        let (dir, launch) = (
            tempfile::tempdir().unwrap(),
            Launch::at(&[control_plane.url()]),
        );
        Self::run(dir, launch, Some(token), "127.0.0.1:0").await
    }

    /// Kills it, as `kill -9` does, and runs it again on the same directory and
    /// port.
    pub(crate) async fn kill_and_run(self) -> Self {
        self.kill().await.run_again().await
    }

    /// Kills it, as `kill -9` does.
    pub(crate) async fn kill(mut self) -> Killed {
        self.child.kill().await.unwrap();
        self.left()
    }

    /// Ends it as a supervisor does.
    pub(crate) async fn stop(mut self) -> Killed {
        assert_eq!(self.terminate().await, Some(0));
        self.left()
    }

    fn left(self) -> Killed {
        let address = self.url.trim_start_matches("http://");
        let port = TcpSocket::new_v4().unwrap();
        port.set_reuseaddr(true).unwrap();
        port.bind(address.parse().unwrap()).unwrap();
        Killed {
            dir: self.dir,
            launch: self.launch,
            address: address.to_owned(),
            port: Some(port),
        }
    }

    /// Stops it where it is, until [`Edge::resume`].
    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// What it has in use: resident memory in KiB, open files, tasks.
    pub(crate) async fn in_use(&self) -> InUse {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let status = std::fs::read_to_string(proc.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.unwrap().split_whitespace().next().unwrap();
        let ready = http().get(format!("{}/readyz", self.url)).send().await;
        let (_, ready) = read(ready.unwrap()).await;
        InUse {
            resident_kib: resident.parse().unwrap(),
            files: std::fs::read_dir(proc.join("fd")).unwrap().count(),
            tasks: ready["tasks"].as_u64().unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn run(dir: TempDir, launch: Launch, token: Option<&str>, listen: &str) -> Self {
        let ready = dir.path().join("ready.json");
        let _ = std::fs::remove_file(&ready);
        let mut child = launch.spawn(dir.path(), token, listen);
        until("the edge is ready", || {
            assert!(child.try_wait().unwrap().is_none(), "the edge has ended");
            ready.exists()
        })
        .await;
        let told: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        Self {
            url: text("edge_http"),
            ws: text("edge_ws"),
            socket: text("edge_socket").into(),
            dir,
            launch,
            child,
        }
    }

    /// Asks it to read its files again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Asks it to end, without waiting for that.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it as a supervisor does and returns its exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .unwrap()
            .unwrap()
            .code()
    }

    /// Ends its stdin, as the death of its parent would.
    pub(crate) async fn orphan(&mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        tokio::time::timeout(DEADLINE, self.child.wait())
            .await
            .unwrap()
            .unwrap()
            .code()
    }

    /// A client with a key.
    pub(crate) fn client(&self, api_key: &str) -> RestClient {
        RestClient::at(&self.url, api_key)
    }

    /// Where its identity is.
    pub(crate) fn identity(&self) -> PathBuf {
        self.dir.path().join("identity/machine.json")
    }
}

/// What a killed edge has left.
pub(crate) struct Killed {
    dir: TempDir,
    launch: Launch,
    address: String,
    /// Bound to its port and never listening: nobody else is given it while it does not run.
    port: Option<TcpSocket>,
}

impl Killed {
    /// As if an edge had joined in this directory and was killed then.
    pub(crate) fn joined(dir: TempDir, launch: Launch) -> Self {
        Self {
            dir,
            launch,
            address: "127.0.0.1:0".to_owned(),
            port: None,
        }
    }

    /// Runs it again on the same directory and port, and waits only until it
    /// listens.
    pub(crate) async fn run_unready(self) -> Edge {
        let child = self.launch.spawn(self.dir.path(), None, &self.address);
        let url = format!("http://{}", self.address);
        let livez = format!("{url}/livez");
        until_async("the edge listens", async || {
            http().get(&livez).send().await.is_ok()
        })
        .await;
        drop(self.port);
        Edge {
            url,
            ws: String::new(),
            socket: self.dir.path().join("edge.sock"),
            dir: self.dir,
            launch: self.launch,
            child,
        }
    }

    /// The same, to be run in another way.
    pub(crate) fn through(self, launch: Launch) -> Self {
        Self { launch, ..self }
    }

    /// Runs it again until it kills itself at a step of its renewal.
    pub(crate) async fn run_until_step(self, step: u32) -> Self {
        let mut launch = self.launch.clone();
        let kill = ("AUTHGUARDIAN_TEST_KILL_AT_STEP", step.to_string().into());
        launch.environment.push(kill);
        let mut child = launch.spawn(self.dir.path(), None, &self.address);
        // waiting would close it, and with it end the edge
        let stdin = child.stdin.take();
        let ended = tokio::time::timeout(DEADLINE, child.wait()).await;
        drop(stdin);
        assert!(ended.is_ok(), "it does not come to step {step}");
        let status = ended.unwrap().unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{status}");
        self
    }

    /// Where its identity is.
    pub(crate) fn identity(&self) -> PathBuf {
        self.dir.path().join("identity/machine.json")
    }

    /// Runs it again on the same directory and port.
    pub(crate) async fn run_again(self) -> Edge {
        let edge = Edge::run(self.dir, self.launch, None, &self.address).await;
        drop(self.port);
        edge
    }
}

/// `edge-agent` without anything of the surrounding environment that it reads.
pub(crate) fn command() -> Command {
    command_of(BINARY)
}

fn command_of(program: &str) -> Command {
    cleared(Command::new(program))
}

/// A command without anything of the surrounding environment that either program
/// reads.
pub(crate) fn cleared(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTHGUARDIAN_")) {
        command.env_remove(name);
    }
    command
        .env("AUTHGUARDIAN_LOG__LEVEL", "warn")
        // not what somebody has logged in with on this machine
        .env("AUTHGUARDIAN_SESSION_FILE", "/nonexistent/session.json")
        .kill_on_drop(true);
    command
}

/// Runs the command line to its end.
pub(crate) async fn output(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    tokio::time::timeout(DEADLINE, output)
        .await
        .unwrap()
        .unwrap()
}

pub(crate) fn http() -> Client {
    Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .build()
        .unwrap()
}

/// REST with a key.
#[derive(Clone)]
pub(crate) struct RestClient {
    http: Client,
    pub(crate) url: String,
    pub(crate) api_key: String,
}

impl RestClient {
    /// Of the edge at this URL.
    pub(crate) fn at(url: &str, api_key: &str) -> Self {
        Self {
            http: http(),
            url: url.to_owned(),
            api_key: api_key.to_owned(),
        }
    }

    /// A tool's result.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let (status, body) = self.try_call(tool, arguments).await;
        assert_eq!(status, StatusCode::OK, "{tool}: {body}");
        body
    }

    /// A tool's status and body.
    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> (StatusCode, Value) {
        let response = self.post(tool).json(&arguments).send().await.unwrap();
        read(response).await
    }

    /// The reason that a call is refused with.
    pub(crate) async fn refusal(&self, tool: &str, arguments: Value) -> String {
        let (status, body) = self.try_call(tool, arguments).await;
        assert!(!status.is_success(), "{tool}: {body}");
        body["reason"].as_str().unwrap().to_owned()
    }

    /// A resource.
    pub(crate) async fn resource(&self, uri: &str) -> Value {
        let url = format!("{}/mcp/resources/{uri}", self.url);
        let response = self
            .http
            .get(url)
            .bearer_auth(&self.api_key)
            .send()
            .await
            .unwrap();
        let (status, body) = read(response).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// A tool's request, without a body.
    pub(crate) fn post(&self, tool: &str) -> RequestBuilder {
        let url = format!("{}/mcp/tools/{tool}", self.url);
        self.http.post(url).bearer_auth(&self.api_key)
    }

    /// The roadmap's grant, and its token.
    pub(crate) async fn granted(&self) -> (Value, String) {
        let result = self
            .call("request_permission", asking("data_analyst"))
            .await;
        assert_eq!(result["decision"], "granted", "{result}");
        let token = result["token"].as_str().unwrap().to_owned();
        (result, token)
    }

    /// Sends an MCP message, in a session or without one.
    pub(crate) async fn mcp(&self, session: Option<&str>, message: &Value) -> Response {
        let mut request = self.http.post(format!("{}/mcp", self.url));
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let request = request.bearer_auth(&self.api_key).json(message);
        request.send().await.unwrap()
    }

    /// Begins an MCP session.
    pub(crate) async fn mcp_session(&self) -> String {
        let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let answer = self.mcp(None, &begin).await;
        let session = answer.headers()["mcp-session-id"]
            .to_str()
            .unwrap()
            .to_owned();
        let answer = answer.text().await.unwrap();
        assert!(answer.contains("serverInfo"), "{answer}");
        let done = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        self.mcp(Some(&session), &done).await;
        session
    }

    /// The answer to a tool's call in a session of its own, as it came.
    pub(crate) async fn mcp_call(&self, tool: &str, arguments: Value) -> String {
        let session = self.mcp_session().await;
        let answer = self.mcp(Some(&session), &mcp_call(tool, &arguments)).await;
        answer.text().await.unwrap()
    }

    /// Whether a token is good for `data_analyst` and `SAP_API`.
    pub(crate) async fn validate(&self, token: &str) -> Value {
        self.call(
            "validate_token",
            json!({"token": token, "agent_id": "data_analyst", "resource_type": "SAP_API"}),
        )
        .await
    }
}

/// A tool's call as an MCP message.
pub(crate) fn mcp_call(tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// The roadmap's request.
pub(crate) fn asking(agent: &str) -> Value {
    json!({"agent_id": agent, "resource_type": "SAP_API", "justification": JUSTIFICATION})
}

pub(crate) async fn read(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.unwrap();
    let body =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status}: `{text}`: {error}"));
    (status, body)
}

/// A file's content, for comparing before and after.
pub(crate) fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
