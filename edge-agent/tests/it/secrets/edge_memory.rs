//! The edge's memory after a login: the key is gone.

use std::time::Duration;

use reqwest::header;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    memory,
    search::{Search, Secrets},
};
use crate::{
    edge::{Edge, Launch, RestClient, asking, http, mcp_call, read},
    faces::speaker::{Face, Speaker},
    rig::ControlPlane,
    wait::until,
};

/// Where memory can be looked into by who is not root, too.
async fn start(control_plane: &ControlPlane) -> Edge {
    let launch = Launch {
        environment: vec![("AUTHGUARDIAN_CORE_DUMPS", "1".into())],
        ..Launch::at(&[control_plane.url()])
    };
    Edge::start_with(control_plane, "host", launch).await
}

fn search_for(key: &str) -> Search {
    let mut secrets = Secrets::default();
    secrets.credential("API key", key);
    secrets.search()
}

/// A request that is answered stays in memory for as long as it takes to put
/// away what it was made of, which is not waited for.
async fn gone(what: &str, pid: u32, search: &Search) {
    let soon = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        let found = memory::find(pid, search);
        if found.is_empty() {
            return;
        }
        assert!(
            tokio::time::Instant::now() < soon,
            "{what}: {} places still hold it:\n{}",
            found.len(),
            found.join("\n")
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A connection of our own, which stays open.
struct Connection(TcpStream);

impl Connection {
    async fn open(edge: &Edge) -> Self {
        let address = edge.url.trim_start_matches("http://");
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// The head of a call and half of its body.
    async fn begin(&mut self, key: &str, body: &str) {
        let head = format!(
            "POST /mcp/tools/request_permission HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
        let half = &body.as_bytes()[..body.len() / 2];
        self.0.write_all(half).await.unwrap();
    }

    /// The other half, and the answer.
    async fn finish(&mut self, body: &str) -> String {
        let half = &body.as_bytes()[body.len() / 2..];
        self.0.write_all(half).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let mut buffer = [0; 4096];
            let length = self.0.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the connection ended");
            answer.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(answer).unwrap()
    }
}

/// An MCP session with an open stream.
async fn mcp_stream(client: &RestClient) -> reqwest::Response {
    let session = client.mcp_session().await;
    let called = client
        .mcp(
            Some(&session),
            &mcp_call("request_permission", &asking("data_analyst")),
        )
        .await;
    let called = called.text().await.unwrap();
    assert!(called.contains("\"granted\""), "{called}");
    let stream = http()
        .get(format!("{}/mcp", client.url))
        .bearer_auth(&client.api_key)
        .header("mcp-session-id", &session)
        .header(header::ACCEPT, "text/event-stream")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    stream
}

#[tokio::test]
async fn after_a_login_the_edge_holds_neither_the_text_nor_the_seed_of_the_key() {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = start(&control_plane).await;
    let (pid, search) = (edge.pid(), search_for(&key));
    assert_eq!(memory::find(pid, &search), Vec::<String>::new());

    // while a request is under way the key is there, and is found
    let body = asking("data_analyst").to_string();
    let mut connection = Connection::open(&edge).await;
    connection.begin(&key, &body).await;
    until("the key is found", || {
        !memory::find(pid, &search).is_empty()
    })
    .await;
    let answer = connection.finish(&body).await;
    assert!(answer.contains("\"granted\""), "{answer}");
    gone("after a login", pid, &search).await;

    let client = edge.client(&key);
    let (_, token) = client.granted().await;
    assert_eq!(client.validate(&token).await["valid"], true);
    client.call("revoke_token", json!({"token": token})).await;
    gone("after calls on a connection that stays", pid, &search).await;

    let stream = mcp_stream(&client).await;
    gone("with an open MCP stream", pid, &search).await;

    let socket = reqwest::Client::builder()
        .unix_socket(edge.socket.clone())
        .build()
        .unwrap();
    let call = socket
        .post("http://localhost/mcp/tools/request_permission")
        .bearer_auth(&key)
        .json(&asking("data_analyst"));
    let (_, granted) = read(call.send().await.unwrap()).await;
    assert_eq!(granted["decision"], "granted");
    gone("after a call by the Unix socket", pid, &search).await;

    let refused = edge.client(&format!("{}x", &key[..key.len() - 1]));
    refused.refusal("revoke_token", json!({"token": "x"})).await;
    gone("after a wrong key that is nearly this one", pid, &search).await;
    drop((stream, connection));
}

#[tokio::test]
async fn a_daemon_writes_no_core_file() {
    let control_plane = ControlPlane::start().await;
    let edge = Edge::start(&control_plane, "host").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", edge.pid())).unwrap();
    let cores = limits.lines().find(|line| line.contains("core file"));
    let words: Vec<_> = cores.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{words:?}");
}

#[tokio::test]
async fn sessions_on_connections_that_last_hold_no_key() {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    let key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = start(&control_plane).await;
    let mut speakers = Vec::new();
    for face in [Face::Sse, Face::WebSocket, Face::WebSocketAlone] {
        let mut speaker = Speaker::begin(face, &edge, &key).await;
        let granted = speaker
            .call("request_permission", &asking("data_analyst"))
            .await;
        assert_eq!(granted.unwrap()["decision"], "granted", "{face:?}");
        speakers.push(speaker);
    }
    gone("the sessions", edge.pid(), &search_for(&key)).await;
    drop(speakers);
}
