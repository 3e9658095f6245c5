//! The stdio bridge, line by line.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{
    edge::{asking, command, output},
    rig::Rig,
    wait::DEADLINE,
};

struct Bridge {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Bridge {
    fn start(rig: &Rig) -> Self {
        let mut command = command();
        command
            .arg("stdio")
            .arg("--socket")
            .arg(&rig.edge.socket)
            .env("AUTHGUARDIAN_API_KEY", &rig.api_key);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
        }
    }

    async fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn send(&mut self, message: Value) {
        self.write(&message.to_string()).await;
    }

    /// The next message that `wanted` holds for.
    async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = tokio::time::timeout(DEADLINE, self.lines.next_line())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if wanted(&message) {
                return message;
            }
        }
    }

    async fn initialize(&mut self) {
        self.send(
            json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            }}),
        )
        .await;
        self.next(|message| message["id"] == 0).await;
        self.send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
    }

    async fn request(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        self.next(|message| message["id"] == id).await
    }
}

fn is_update(message: &Value) -> bool {
    message["method"] == "notifications/resources/updated"
        && message["params"]["uri"] == "grants://active"
}

#[tokio::test]
async fn a_client_that_only_listens_survives_a_restart_of_the_edge() {
    let mut rig = Rig::start().await;
    let mut bridge = Bridge::start(&rig);
    bridge.initialize().await;
    bridge
        .request(1, "resources/subscribe", json!({"uri": "grants://active"}))
        .await;
    rig.edge.client(&rig.api_key).granted().await;
    bridge.next(is_update).await;

    rig.edge = rig.edge.kill_and_run().await;
    // told to read again, since something may have been missed
    bridge.next(is_update).await;
    let tools = bridge.request(2, "tools/list", json!({})).await;
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 20);
    let call = json!({"name": "request_permission", "arguments": asking("data_analyst")});
    let granted = bridge.request(3, "tools/call", call).await;
    assert_eq!(
        granted["result"]["structuredContent"]["score"], 570,
        "{granted}"
    );
    bridge.next(is_update).await;

    drop(bridge.stdin.take());
    let status = tokio::time::timeout(DEADLINE, bridge.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_bridged_is_answered_as_json_rpc() {
    let rig = Rig::start().await;
    let mut bridge = Bridge::start(&rig);
    bridge.write("{not json").await;
    assert_eq!(bridge.next(|_| true).await["error"]["code"], -32700);
    let answer = bridge.request(1, "tools/list", json!({})).await;
    assert!(answer["error"].is_object(), "{answer}");

    let mut nobody = command();
    nobody
        .args(["stdio", "--socket", "/nonexistent.sock"])
        .env("AUTHGUARDIAN_API_KEY", &rig.api_key);
    let mut child = nobody
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"tools/list\"}\n")
        .await
        .unwrap();
    drop(stdin);
    let told = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["id"], 5);
    assert!(
        told["error"]["message"]
            .as_str()
            .unwrap()
            .contains("edge-agent run"),
        "{told}"
    );

    let mut keyless = command();
    keyless.arg("stdio");
    assert_eq!(output(keyless).await.status.code(), Some(2));
}
