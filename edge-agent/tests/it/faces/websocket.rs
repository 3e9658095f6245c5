//! `/ws`: what is WebSocket's own.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::speaker::{Face, Speaker};
use crate::{
    edge::{asking, http, read},
    held::Held,
    rig::Rig,
};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

async fn begin(rig: &Rig) -> Speaker {
    Speaker::begin(Face::WebSocket, &rig.edge, &rig.api_key).await
}

/// A handshake as it comes from a client that only has a URL.
fn handshake(rig: &Rig) -> reqwest::RequestBuilder {
    http()
        .get(format!("{}/ws", rig.edge.url))
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", KEY)
}

#[tokio::test]
async fn a_connection_ends_with_the_reason_for_it() {
    let rig = Rig::start().await;
    let mut binary = begin(&rig).await;
    binary.send_frame(Message::binary(vec![1, 2, 3]));
    assert_eq!(binary.closed().await.unwrap().0, 1003);
    let mut large = begin(&rig).await;
    large.send_text(&" ".repeat(5 * 1024 * 1024)).await;
    assert_eq!(large.closed().await.unwrap().0, 1009);
    let mut polite = begin(&rig).await;
    polite.send_frame(Message::Close(None));
    assert_eq!(polite.closed().await, None);
    let mut last = begin(&rig).await;
    rig.edge.ask_to_end();
    let (code, reason) = last.closed().await.unwrap();
    assert_eq!(code, 1001);
    assert!(reason.contains("connect again"), "{reason}");
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_the_connection_stays() {
    let rig = Rig::start().await;
    let mut speaker = begin(&rig).await;
    for (text, code) in [
        ("{\"a\":}", -32700),
        ("{\"id\":1,\"id\":2}", -32700),
        (&*"[".repeat(1000), -32700),
        ("[]", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":\"x\"}", -32600),
    ] {
        speaker.send_text(text).await;
        let told = speaker.next(|message| message.get("error").is_some()).await;
        assert_eq!(told["error"]["code"], code, "{text}: {told}");
        assert_eq!(told["error"]["data"]["reason"], "INVALID_ARGUMENT");
    }
    // nothing is hidden in frames that are no text
    speaker.send_frame(Message::Ping(Bytes::from_static(b"x")));
    let listed = speaker.request("tools/list", json!({})).await;
    assert!(listed["result"]["tools"].is_array(), "{listed}");
}

#[tokio::test]
async fn a_connection_ends_with_its_key() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let mut speaker = Speaker::begin(Face::WebSocket, &rig.edge, &key).await;
    rig.control_plane.revoke_api_key(id).await;
    assert_eq!(speaker.closed().await.unwrap().0, 1008);
}

#[tokio::test]
async fn a_request_can_be_cancelled_and_two_cannot_have_one_id() {
    let rig = Rig::start().await;
    let mut speaker = begin(&rig).await;
    let held = Held::begin(&rig).await;
    let call = json!({"name": "request_permission", "arguments": asking("data_analyst")});
    let id = speaker.ask("tools/call", call).await;
    held.is_waited_for().await;
    let again = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    speaker.send(&again).await;
    let refused = speaker.answer(id).await;
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
    let cancelled = json!({
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": id},
    });
    speaker.send(&cancelled).await;
    // its id is free again, and no answer but this one has it
    speaker.send(&again).await;
    let pong = speaker.answer(id).await;
    assert_eq!(pong["result"], json!({}), "{pong}");
    held.end().await;
}

#[tokio::test]
async fn a_key_can_stand_in_the_url_of_a_websocket_and_nowhere_else() {
    let rig = Rig::start().await;
    let with_key = |request: reqwest::RequestBuilder| request.basic_auth("any", Some(&rig.api_key));
    let switched = with_key(handshake(&rig)).header("sec-websocket-protocol", "mcp");
    let switched = switched.send().await.unwrap();
    assert_eq!(switched.status(), StatusCode::SWITCHING_PROTOCOLS);
    let rest = with_key(http().get(format!("{}/mcp/resources/grants://active", rig.edge.url)));
    assert_eq!(rest.send().await.unwrap().status(), 401);
    let wrong = handshake(&rig).basic_auth("any", Some("agk_wrong"));
    assert_eq!(wrong.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_with_what_was_expected() {
    let rig = Rig::start().await;
    let refused = async |request: reqwest::RequestBuilder| -> (StatusCode, Value) {
        read(request.bearer_auth(&rig.api_key).send().await.unwrap()).await
    };
    let (status, told) = refused(handshake(&rig)).await;
    assert_eq!(status, 400);
    assert_eq!(told["field"], "Sec-WebSocket-Protocol", "{told}");
    let (status, _) = refused(handshake(&rig).header("sec-websocket-protocol", "soap")).await;
    assert_eq!(status, 400);
    let (status, told) = refused(http().get(format!("{}/ws", rig.edge.url))).await;
    assert_eq!(status, 426, "{told}");
    assert_eq!(handshake(&rig).send().await.unwrap().status(), 401);
    let alone = rig.edge.ws.replace("ws://", "http://");
    let (status, told) = refused(http().get(format!("{alone}/mcp"))).await;
    assert_eq!(status, 404, "{told}");
}
