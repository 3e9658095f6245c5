//! Edges that find each other in the local network while the control plane is away.

use std::{net::Ipv4Addr, path::Path, process::Stdio, sync::mpsc};

use authguardian_discovery::{Announcement, Mdns};
use authguardian_proto::ids::MachineId;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Child, sync::oneshot};

use super::namespaces::{Host, Lan};
use crate::{
    edge::{BINARY, RestClient, cleared},
    rig::ControlPlane,
    wait::{until, until_async},
};

const URL: &str = "http://127.0.0.1:3001";
const PEER_PORT: u16 = 3005;

/// What runs on a host until it is stopped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What operators have made at a control plane.
struct Made {
    url: String,
    tokens: [String; 2],
    reader: String,
    seeker: String,
}

fn control_plane(host: &Host) -> (Made, Running) {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let address = host.address;
    let thread = host.run(move || async move {
        let control_plane = ControlPlane::start_with(|config| {
            config.listen.edge_grpc = (Ipv4Addr::UNSPECIFIED, 0).into();
            config.identity.server_names = vec![address.to_string()];
            config.registry.heartbeat_seconds = 1;
            config.registry.suspect_after_seconds = 3;
            config.registry.gone_after_seconds = 6;
        })
        .await;
        for agent in ["reader", "data_analyst"] {
            control_plane.agent(agent, 800).await;
        }
        let made = Made {
            url: format!("https://{address}:{}", control_plane.edge_grpc.port()),
            tokens: [
                control_plane.join_token("left").await,
                control_plane.join_token("right").await,
            ],
            reader: control_plane.api_key(&["reader"], false).await,
            seeker: control_plane.api_key(&["data_analyst"], false).await,
        };
        tell.send(made).unwrap();
        let _ = stopped.await;
        control_plane.stop().await;
    });
    let running = Running {
        stop: Some(stop),
        thread: Some(thread),
    };
    (told.recv().unwrap(), running)
}

/// Somebody who says that this machine's edge is on this host.
fn forger(host: &Host, machine: MachineId) -> Running {
    let (stop, stopped) = oneshot::channel::<()>();
    let interface = host.interface.clone();
    let thread = host.run(move || async move {
        let mdns = Mdns::open(&[interface]).unwrap();
        let said = Announcement::Edge {
            machine,
            records: 1,
        };
        mdns.announce("posing", PEER_PORT, &said).unwrap();
        let _ = stopped.await;
        mdns.close().await;
    });
    Running {
        stop: Some(stop),
        thread: Some(thread),
    }
}

/// An edge on a host.
struct There {
    child: Child,
    machine: MachineId,
    _dir: TempDir,
}

async fn edge(host: &Host, made: &Made, token: &str) -> There {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    let text = format!(
        "[peer]\nlisten = \"{}:{PEER_PORT}\"\n[discovery.mdns]\nenabled = true\ninterfaces = [\"{}\"]\n",
        host.address, host.interface
    );
    std::fs::write(&config, text).unwrap();
    let ready = dir.path().join("ready.json");
    let mut command = cleared(host.command(BINARY));
    command.args(["run", "--listen", "127.0.0.1:3001", "--exit-with-parent"]);
    command.args(["--server", &made.url, "--join-token", token, "--data-dir"]);
    command.arg(dir.path().join("data")).arg("--ready-file");
    command.arg(&ready).arg("--config").arg(&config);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    until("the edge is ready", || {
        assert!(child.try_wait().unwrap().is_none(), "the edge has ended");
        Path::exists(&ready)
    })
    .await;
    let told: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    There {
        child,
        machine: told["machine_id"].as_str().unwrap().parse().unwrap(),
        _dir: dir,
    }
}

/// Calls a tool of the edge on a host, from there.
async fn call(host: &Host, key: &str, tool: &'static str, arguments: Value) -> Value {
    let (tell, told) = oneshot::channel();
    let key = key.to_owned();
    let thread = host.run(move || async move {
        let (_, answer) = RestClient::at(URL, &key).try_call(tool, arguments).await;
        let _ = tell.send(answer);
    });
    let answer = told.await.unwrap();
    tokio::task::spawn_blocking(move || thread.join().unwrap())
        .await
        .unwrap();
    answer
}

async fn until_found(host: &Host, key: &str, source: &str, liveness: &str) {
    let wanted = json!([source, liveness]);
    until_async(&format!("reader: {source}, {liveness}"), async || {
        let answer = call(host, key, "discover_agents", json!({})).await;
        let Some(agents) = answer["agents"].as_array() else {
            return false;
        };
        let mut agents = agents.iter();
        let reader = agents.find(|agent| agent["agent_id"] == "reader");
        reader.is_some_and(|found| json!([found["source"], found["liveness"]]) == wanted)
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_poses_as_another_is_not_believed() {
    let Some(lan) = Lan::build() else { return };
    let (made, mut control_plane) = control_plane(&lan.left);
    let mut left = edge(&lan.left, &made, &made.tokens[0]).await;
    let _right = edge(&lan.right, &made, &made.tokens[1]).await;
    let asked = json!({"agent_id": "reader", "capabilities": ["finance.invoices"]});
    let registered = call(&lan.left, &made.reader, "register_agent", asked).await;
    assert_eq!(registered["agent_id"], "reader", "{registered}");
    until_found(&lan.right, &made.seeker, "central", "live").await;

    // with the control plane away, agents of one edge are found at the other
    tokio::task::spawn_blocking(move || control_plane.end())
        .await
        .unwrap();
    until_found(&lan.right, &made.seeker, "mdns", "live").await;

    // and when it dies, nobody keeps it alive by announcing it
    let _forger = forger(&lan.right, left.machine);
    left.child.kill().await.unwrap();
    until_found(&lan.right, &made.seeker, "mdns", "suspect").await;
    until_found(&lan.right, &made.seeker, "mdns", "gone").await;
}
