//! `control-plane dev`: the whole system as processes.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::wait::{DEADLINE, until};

/// A system that runs.
struct Dev {
    child: Child,
    ready: Value,
    ready_file: PathBuf,
    postmaster: Pid,
    standbys: Vec<Pid>,
    edge: Pid,
}

/// Where systems of one test lie; root's PostgreSQL account has to get in.
fn place() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn command(dir: &Path, base: u16) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_control-plane"));
    let edge = program.with_file_name("edge-agent");
    assert!(
        edge.exists(),
        "`{}` is missing: run `cargo build --workspace --bins`",
        edge.display()
    );
    let mut command = Command::new(program);
    command
        .arg("dev")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--ready-file")
        .arg(dir.join("ready.json"))
        .arg("--port-base")
        .arg(base.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}

impl Dev {
    async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    async fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let ready_file = dir.join("ready.json");
        // one that a killed run left behind would be taken for this run's
        let _ = fs::remove_file(&ready_file);
        let mut child = command(dir, free_base()).args(arguments).spawn().unwrap();
        until("everything is ready", || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "dev ended before it was ready"
            );
            ready_file.exists()
        })
        .await;
        let ready = serde_json::from_slice(&fs::read(&ready_file).unwrap()).unwrap();
        let pid = postmaster_of(dir, "postgres").unwrap();
        let standbys = ["standby1", "standby2"];
        let standbys = standbys.iter().filter_map(|name| postmaster_of(dir, name));
        let own = child.id().unwrap();
        Self {
            ready,
            ready_file,
            postmaster: pid,
            standbys: standbys.collect(),
            edge: edge_of(own),
            child,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    /// Calls a tool of the edge.
    async fn call(&self, tool: &str, arguments: &Value) -> reqwest::Result<Value> {
        let response = reqwest::Client::new()
            .post(format!("{}/mcp/tools/{tool}", self.text("edge_http")))
            .bearer_auth(self.text("api_key"))
            .json(arguments)
            .send()
            .await?;
        response.error_for_status()?.json().await
    }

    /// The roadmap's example.
    async fn request(&self) -> reqwest::Result<Value> {
        let arguments = json!({
            "agent_id": "data_analyst",
            "resource_type": "SAP_API",
            "justification": "Q4 analysis task",
        });
        self.call("request_permission", &arguments).await
    }

    /// What a command of the operator tells.
    async fn operate(&self, arguments: &[&str]) -> Value {
        let told = Command::new(env!("CARGO_BIN_EXE_control-plane"))
            .args(arguments)
            .args(["-o", "json"])
            .env("AUTHGUARDIAN_SERVER", self.text("admin_grpc"))
            .env("AUTHGUARDIAN_CA_FILE", self.text("ca_file"))
            .env("AUTHGUARDIAN_ADMIN_TOKEN", self.text("admin_token"))
            .output()
            .await
            .unwrap();
        serde_json::from_slice(&told.stdout).unwrap()
    }

    async fn status(&self) -> Value {
        self.operate(&["status"]).await
    }

    /// Signals dev alone, waits until it has ended, and looks after the rest.
    async fn end(mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        let (edge, postmaster, standbys) = (self.edge, self.postmaster, self.standbys);
        until("edge and PostgreSQL are gone", || {
            let servers = [&[postmaster], &*standbys].concat();
            test_kill_process(edge).is_err()
                && servers
                    .iter()
                    .all(|server| test_kill_process(*server).is_err())
        })
        .await;
        status.unwrap().unwrap().code()
    }
}

/// The server in one of the directories of `dev`.
fn postmaster_of(dir: &Path, name: &str) -> Option<Pid> {
    let file = dir.join("data").join(name).join("cluster/postmaster.pid");
    let pid = fs::read_to_string(file).ok()?;
    Pid::from_raw(pid.lines().next()?.parse().ok()?)
}

/// The edge's process, by its parent.
fn edge_of(parent: u32) -> Pid {
    let children = format!("/proc/{parent}/task");
    let mut found = None;
    for task in fs::read_dir(children).unwrap() {
        let children = fs::read_to_string(task.unwrap().path().join("children"));
        for pid in children.unwrap_or_default().split_whitespace() {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if name.trim_end() == "edge-agent" {
                found = Pid::from_raw(pid.parse().unwrap());
            }
        }
    }
    found.expect("the edge runs")
}

/// Five free ports in a row, out of the range that systems hand out.
fn free_base() -> u16 {
    let start = 10_000 + u16::try_from(std::process::id() % 2_000).unwrap() * 8;
    (start..start + 2_000)
        .step_by(8)
        .find(|base| (*base..base + 5).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
        .expect("some ports are free")
}

#[tokio::test]
async fn the_first_call_is_granted_and_a_second_start_finds_everything() {
    let place = place();
    let dev = Dev::start(place.path()).await;
    for name in [
        "admin_grpc",
        "edge_grpc",
        "http",
        "edge_http",
        "edge_ws",
        "edge_socket",
        "ca_file",
        "api_key",
        "admin_token",
        "database_url",
    ] {
        assert!(dev.ready[name].is_string(), "{name}: {}", dev.ready);
    }
    let mode = fs::metadata(&dev.ready_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let granted = dev.request().await.unwrap();
    assert_eq!(
        (&granted["decision"], &granted["score"]),
        (&"granted".into(), &570.into())
    );

    let keys = [dev.text("api_key"), dev.text("admin_token")].map(str::to_owned);
    let ready_file = dev.ready_file.clone();
    assert_eq!(dev.end(Signal::INT).await, Some(0));
    assert!(!ready_file.exists(), "nobody is ready any more");

    let dev = Dev::start(place.path()).await;
    assert_eq!([dev.text("api_key"), dev.text("admin_token")], keys);
    let arguments = json!({
        "token": granted["token"],
        "agent_id": "data_analyst",
        "resource_type": "SAP_API",
    });
    let valid = dev.call("validate_token", &arguments).await.unwrap();
    assert_eq!(valid["valid"], true, "{valid}");
    assert_eq!(dev.end(Signal::TERM).await, Some(0));
}

#[tokio::test]
async fn three_replicas_confirm_writes_as_a_quorum_and_end_together() {
    let place = place();
    let replicas = ["--replicas", "3"];
    let dev = Dev::start_with(place.path(), &replicas).await;
    assert_eq!(dev.standbys.len(), 2);
    let granted = dev.request().await.unwrap();
    let status = dev.status().await;
    assert_eq!(
        (&status["write_quorum"], &status["write_copies"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(status["leader_lease_milliseconds"], json!(null));

    // one of them is enough, and it comes back
    kill_process(dev.standbys[0], Signal::KILL).unwrap();
    dev.request().await.unwrap();
    until("the standby is back", || {
        postmaster_of(place.path(), "standby1").is_some_and(|pid| pid != dev.standbys[0])
    })
    .await;
    let standbys = ["standby1", "standby2"].map(|name| postmaster_of(place.path(), name).unwrap());
    let dev = Dev {
        standbys: standbys.to_vec(),
        ..dev
    };
    assert_eq!(dev.end(Signal::INT).await, Some(0));

    let dev = Dev::start_with(place.path(), &replicas).await;
    let arguments = json!({
        "token": granted["token"],
        "agent_id": "data_analyst",
        "resource_type": "SAP_API",
    });
    let valid = dev.call("validate_token", &arguments).await.unwrap();
    assert_eq!(valid["valid"], true, "{valid}");
    assert_eq!(dev.end(Signal::KILL).await, None);

    // and without them again
    let dev = Dev::start(place.path()).await;
    assert_eq!(dev.status().await["write_quorum"], 1);
    dev.request().await.unwrap();
    assert_eq!(dev.end(Signal::INT).await, Some(0));
}

#[tokio::test]
async fn killing_it_leaves_no_process_and_loses_nothing() {
    let place = place();
    let dev = Dev::start(place.path()).await;
    let granted = dev.request().await.unwrap();
    assert_eq!(dev.end(Signal::KILL).await, None);

    let dev = Dev::start(place.path()).await;
    let shown = dev
        .operate(&["grant", "show", granted["grant_id"].as_str().unwrap()])
        .await;
    assert_eq!(shown["state"], "active");
    dev.end(Signal::INT).await;
}

#[tokio::test]
async fn a_part_that_dies_is_started_again() {
    let place = place();
    let dev = Dev::start(place.path()).await;
    kill_process(dev.edge, Signal::KILL).unwrap();
    kill_process(dev.postmaster, Signal::KILL).unwrap();
    let again = async {
        while dev.request().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.unwrap();
    let own = dev.child.id().unwrap();
    let dev = Dev {
        edge: edge_of(own),
        postmaster: postmaster_of(place.path(), "postgres").unwrap(),
        ..dev
    };
    assert_eq!(dev.end(Signal::INT).await, Some(0));
}

#[tokio::test]
async fn a_taken_port_is_named_before_anything_starts() {
    let place = place();
    let base = free_base();
    let _taken = TcpListener::bind(("127.0.0.1", base + 3)).unwrap();
    let output = command(place.path(), base)
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains(&format!("port {} (admin_grpc)", base + 3)) && said.contains("--port-base"),
        "{said}"
    );
    assert!(!place.path().join("data").exists());
}
