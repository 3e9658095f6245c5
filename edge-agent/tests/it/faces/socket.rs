//! Users of this machine at the Unix socket.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Output};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    edge::{Edge, Launch, asking, output},
    rig::ControlPlane,
};

/// `curl` over the socket as another user, which takes root to become.
async fn curl(uid: u32, socket: &Path, api_key: &str) -> Output {
    let mut command = Command::new("setpriv");
    command
        .args([&format!("--reuid={uid}"), "--regid=65534", "--clear-groups"])
        .args(["curl", "--silent", "--show-error", "--max-time", "60"])
        .arg("--unix-socket")
        .arg(socket)
        .arg("http://localhost/mcp/tools/request_permission")
        .args(["--oauth2-bearer", api_key])
        .args(["--header", "Content-Type: application/json"])
        .args(["--data", &asking("data_analyst").to_string()]);
    output(command).await
}

#[tokio::test]
async fn users_that_are_let_in_act_for_their_agents_only_and_nobody_else_gets_in() {
    const LET_IN: u32 = 65_533;
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    control_plane.agent("orchestrator", 900).await;
    let own = control_plane.api_key(&["data_analyst"], false).await;
    let wider = control_plane
        .api_key(&["data_analyst", "orchestrator"], false)
        .await;

    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (config, socket) = (dir.path().join("edge.toml"), dir.path().join("edge.sock"));
    let text = format!("[[socket.users]]\nuid = {LET_IN}\nagents = [\"data_analyst\"]\n");
    fs::write(&config, text).unwrap();
    let mut launch = Launch::at(&[control_plane.url()]);
    launch.config = Some(config);
    launch
        .environment
        .push(("AUTHGUARDIAN_LISTEN__SOCKET", socket.clone().into()));
    let _edge = Edge::start_with(&control_plane, "host", launch).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);

    // the owner is not bound to any agents
    let client = reqwest::Client::builder()
        .unix_socket(socket.clone())
        .build()
        .unwrap();
    let granted = client
        .post("http://localhost/mcp/tools/request_permission")
        .bearer_auth(&wider)
        .json(&asking("data_analyst"));
    let granted: Value = granted.send().await.unwrap().json().await.unwrap();
    assert_eq!(granted["decision"], "granted");

    if !rustix::process::geteuid().is_root() {
        // nobody but root can be somebody else
        return;
    }
    let body = |output: &Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let granted = body(&curl(LET_IN, &socket, &own).await);
    assert_eq!(granted["decision"], "granted", "{granted}");
    let refused = body(&curl(LET_IN, &socket, &wider).await);
    assert_eq!(refused["reason"], json!("AGENT_MISMATCH"), "{refused}");
    let shut_out = curl(LET_IN - 1, &socket, &own).await;
    assert!(!shut_out.status.success(), "{shut_out:?}");
    assert!(shut_out.stdout.is_empty(), "{shut_out:?}");
}
