//! What no well-behaved client sends, to every face: clean errors, and nothing
//! left behind.

use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::speaker::{Face, Speaker};
use crate::{
    edge::{Edge, asking, http, read},
    rig::Rig,
    wait::{DEADLINE, until_async},
};

/// Where bodies go.
const TAKE_BODIES: [&str; 3] = ["/mcp", "/mcp/tools/validate_token", "/auth/session"];

async fn connect(edge: &Edge) -> TcpStream {
    TcpStream::connect(edge.url.trim_start_matches("http://"))
        .await
        .unwrap()
}

/// A request's head, whose body is to follow.
fn head(rig: &Rig, path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n",
        rig.api_key
    )
}

/// Sends bytes, ends this side of the connection, and reads the other to its end.
async fn half_closed(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = connect(&rig.edge).await;
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut text = Vec::new();
    // a reset ends it as well
    let reading = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(DEADLINE, reading).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn sends(rig: &Rig, path: &str, kind: &str, body: Vec<u8>) -> (StatusCode, Value) {
    let request = http()
        .post(format!("{}{path}", rig.edge.url))
        .bearer_auth(&rig.api_key)
        .header("accept", "application/json, text/event-stream")
        .header("content-type", kind)
        .body(body);
    read(request.send().await.unwrap()).await
}

/// The reason that a problem or a JSON-RPC error names.
fn reason(told: &Value) -> &Value {
    told.get("reason")
        .unwrap_or(&told["error"]["data"]["reason"])
}

#[tokio::test]
async fn bodies_that_are_no_json_too_large_or_of_another_kind_are_refused_by_every_path() {
    let rig = Rig::start().await;
    let deep = format!("{{\"token\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    for path in TAKE_BODIES {
        for (what, body) in [
            ("invalid UTF-8", b"{\"token\":\"\xff\xfe\"}".to_vec()),
            ("no end", b"{\"token\":\"a".to_vec()),
            ("depth", deep.clone().into_bytes()),
            (
                "a name twice",
                b"{\"token\":\"a\",\"token\":\"b\"}".to_vec(),
            ),
            ("no object", b"[1,2]".to_vec()),
            ("two texts", b"{} {}".to_vec()),
        ] {
            let (status, told) = sends(&rig, path, "application/json", body).await;
            assert_eq!(status, 400, "{path} {what}: {told}");
            assert_eq!(reason(&told), "INVALID_ARGUMENT", "{path} {what}: {told}");
        }
        let large = vec![b' '; 5 * 1024 * 1024];
        let (status, told) = sends(&rig, path, "application/json", large).await;
        assert_eq!(
            (status.as_u16(), reason(&told)),
            (413, &json!("TOO_LARGE")),
            "{path}"
        );
        let (status, told) = sends(&rig, path, "text/plain", b"{}".to_vec()).await;
        assert_eq!(
            (status.as_u16(), reason(&told)),
            (415, &json!("INVALID_ARGUMENT")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn whoever_stops_sending_in_the_middle_gets_an_answer_or_an_end() {
    let rig = Rig::start().await;
    let arguments = asking("data_analyst").to_string();
    for path in TAKE_BODIES {
        let whole = head(&rig, path, arguments.len()) + &arguments;
        // whoever closes gives up: the edge cannot tell it from one that is gone
        for cut in [10, whole.len() / 2, whole.len() - 1, whole.len()] {
            let told = half_closed(&rig, &whole.as_bytes()[..cut]).await;
            assert!(
                told.is_empty() || told.starts_with("HTTP/1.1 "),
                "{path} {cut}: `{told}`"
            );
            assert!(!told.contains(" 500 "), "{path} {cut}: `{told}`");
        }
    }
    // a WebSocket frame that says it has four bytes, and one
    for frame in [
        &[0x81][..],
        &[0x81, 0x84, 1, 2],
        &[0x81, 0x84, 1, 2, 3, 4, 5],
    ] {
        let told = half_closed(&rig, &[handshake(&rig).as_bytes(), frame].concat()).await;
        assert!(
            told.is_empty() || told.starts_with("HTTP/1.1 101 "),
            "`{told}`"
        );
    }
    let live = http().get(format!("{}/livez", rig.edge.url)).send().await;
    assert_eq!(live.unwrap().status(), StatusCode::OK);
}

fn handshake(rig: &Rig) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mcp\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        rig.api_key
    )
}

#[tokio::test]
async fn what_is_no_websocket_closes_it_with_the_code_for_that() {
    let rig = Rig::start().await;
    let closes = async |frame: &[u8]| {
        let mut stream = connect(&rig.edge).await;
        stream.write_all(handshake(&rig).as_bytes()).await.unwrap();
        stream.write_all(frame).await.unwrap();
        let mut told = Vec::new();
        let reading = stream.read_to_end(&mut told);
        let _ = tokio::time::timeout(DEADLINE, reading).await.unwrap();
        let body = told
            .windows(4)
            .position(|part| part == b"\r\n\r\n")
            .unwrap()
            + 4;
        // RFC 6455, section 5.2: a close frame, its length, its code
        assert_eq!(told[body], 0x88, "{:?}", &told[body..]);
        u16::from_be_bytes([told[body + 2], told[body + 3]])
    };
    // masked by zeroes
    let invalid_text = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    let reserved_opcode = [0x83, 0x80, 0, 0, 0, 0];
    let unmasked = [0x81, 0x01, b'x'];
    let announced_5_mb = [0x81, 0xff, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0];
    assert_eq!(closes(&invalid_text).await, 1007);
    assert_eq!(closes(&reserved_opcode).await, 1007);
    assert_eq!(closes(&unmasked).await, 1007);
    assert_eq!(closes(&announced_5_mb).await, 1009);
}

#[tokio::test]
async fn ten_thousand_connections_that_come_and_go_leave_nothing_behind() {
    let rig = Rig::start().await;
    // whatever is allocated once is
    come_and_go(&rig, 1000).await;
    let before = settled(&rig.edge, None).await;
    come_and_go(&rig, 10_000).await;
    let after = settled(&rig.edge, Some(before.tasks)).await;
    let grown = after.resident_kib.saturating_sub(before.resident_kib);
    eprintln!("before {before:?}, after {after:?}");
    // what the edge does by itself may have a file open for a moment
    until_async("no file is left", async || {
        rig.edge.in_use().await.files <= before.files
    })
    .await;
    assert!(grown < 24 * 1024, "{before:?} {after:?}");
    for face in Face::ALL {
        let mut speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
        let listed = speaker.request("tools/list", json!({})).await;
        assert!(listed["result"]["tools"].is_array(), "{face:?}");
    }
}

/// Connects so often, in turn to each face, and drops the connections at
/// different points.
async fn come_and_go(rig: &Rig, count: usize) {
    let sse = format!(
        "GET /sse HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        rig.api_key
    );
    let events = sse.replace("/sse", "/events");
    let call = head(rig, "/mcp/tools/validate_token", 100);
    let websocket = handshake(rig);
    let texts = ["", "GET /", &sse, &events, &websocket, &call];
    stream::iter(0..count)
        .for_each_concurrent(64, |number| async move {
            let text = texts[number % texts.len()];
            let mut stream = connect(&rig.edge).await;
            stream.write_all(text.as_bytes()).await.unwrap();
            if number % 2 == 0 && text.contains("GET /s") {
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.unwrap();
                assert_eq!(&answer[9..], b"200");
            }
        })
        .await;
}

/// What is in use when everything that came has gone: no more tasks than
/// before, where that is known, else as few as there will be.
async fn settled(edge: &Edge, tasks: Option<u64>) -> crate::edge::InUse {
    let fewest = std::cell::Cell::new(u64::MAX);
    let same = std::cell::Cell::new(0);
    until_async("all connections are gone", async || {
        let now = edge.in_use().await.tasks;
        if let Some(before) = tasks {
            return now <= before + 2;
        }
        same.set(if now < fewest.get() {
            0
        } else {
            same.get() + 1
        });
        fewest.set(now.min(fewest.get()));
        same.get() > 100
    })
    .await;
    edge.in_use().await
}
