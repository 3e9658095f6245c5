//! `/sse` and `/messages`: what is that transport's own.

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    rig,
    speaker::{Face, Speaker},
};
use crate::{
    edge::{http, read},
    rig::Rig,
    wait::until_async,
};

/// An open stream, and where its messages go.
async fn open(url: &str, api_key: &str) -> (Response, String) {
    let stream = http().get(format!("{url}/sse")).bearer_auth(api_key);
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    let first = stream.chunk().await.unwrap().unwrap();
    let first = String::from_utf8(first.to_vec()).unwrap();
    let path = first
        .trim()
        .strip_prefix("event: endpoint\ndata: ")
        .unwrap();
    let to = format!("{url}{path}");
    (stream, to)
}

fn post(to: &str, api_key: &str) -> RequestBuilder {
    http().post(to).bearer_auth(api_key)
}

fn ping() -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})
}

async fn refused(request: RequestBuilder) -> (StatusCode, Value) {
    read(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_message_has_to_name_a_session_of_its_own_key() {
    let rig = Rig::start().await;
    let (_stream, to) = open(&rig.edge.url, &rig.api_key).await;
    let other = rig.control_plane.api_key(&["data_analyst"], false).await;
    let (status, told) = refused(post(&to, &other).json(&ping())).await;
    assert_eq!(
        (status.as_u16(), &told["reason"]),
        (403, &json!("PERMISSION_DENIED"))
    );
    let nowhere = format!("{}/messages", rig.edge.url);
    let (status, told) = refused(post(&nowhere, &rig.api_key).json(&ping())).await;
    assert_eq!(
        (status.as_u16(), &told["field"]),
        (400, &json!("sessionId"))
    );
    let unknown = format!("{nowhere}?sessionId=no");
    let (status, told) = refused(post(&unknown, &rig.api_key).json(&ping())).await;
    assert_eq!(status, 404, "{told}");
    assert_eq!(
        http()
            .post(&to)
            .json(&ping())
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    let taken = post(&to, &rig.api_key).json(&ping()).send().await.unwrap();
    assert_eq!(taken.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_is_no_message_is_refused_where_it_was_sent() {
    let rig = Rig::start().await;
    let (_stream, to) = open(&rig.edge.url, &rig.api_key).await;
    for (text, code) in [("{", -32700), ("[]", -32600), ("{\"a\":1,\"a\":2}", -32700)] {
        let (status, told) = refused(post(&to, &rig.api_key).body(text)).await;
        assert_eq!(
            (status.as_u16(), &told["error"]["code"]),
            (400, &json!(code)),
            "{text}"
        );
    }
    let form = post(&to, &rig.api_key).header("content-type", "text/plain");
    let (status, told) = refused(form.body(ping().to_string())).await;
    assert_eq!(
        (status.as_u16(), &told["field"]),
        (415, &json!("Content-Type"))
    );
    let large = post(&to, &rig.api_key).body(" ".repeat(5 * 1024 * 1024));
    let (status, told) = refused(large).await;
    assert_eq!(
        (status.as_u16(), &told["reason"]),
        (413, &json!("TOO_LARGE"))
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_key_and_its_session_with_the_stream() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let mut speaker = Speaker::begin(Face::Sse, &rig.edge, &key).await;
    rig.control_plane.revoke_api_key(id).await;
    speaker.closed().await;
    let (stream, to) = open(&rig.edge.url, &rig.api_key).await;
    drop(stream);
    until_async("the session has ended", async || {
        let asked = post(&to, &rig.api_key).json(&ping()).send().await;
        asked.unwrap().status() == 404
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_an_old_session_is_not_found_and_a_new_one_begins() {
    let rig = Rig::start().await;
    let (_stream, to) = open(&rig.edge.url, &rig.api_key).await;
    let edge = rig.edge.kill_and_run().await;
    let (status, told) = refused(post(&to, &rig.api_key).json(&ping())).await;
    assert_eq!(status, 404, "{told}");
    let mut speaker = Speaker::begin(Face::Sse, &edge, &rig.api_key).await;
    assert_eq!(
        speaker.request("ping", json!({})).await["result"],
        json!({})
    );
}

#[tokio::test]
async fn sessions_of_all_faces_share_their_bound_and_an_ended_one_makes_room() {
    let rig = rig(&[("AUTHGUARDIAN_LIMITS__MAX_SESSIONS_PER_KEY", "2")]).await;
    let (first, _) = open(&rig.edge.url, &rig.api_key).await;
    let _second = Speaker::begin(Face::WebSocket, &rig.edge, &rig.api_key).await;
    let third = || {
        http()
            .get(format!("{}/sse", rig.edge.url))
            .bearer_auth(&rig.api_key)
    };
    let (status, told) = refused(third()).await;
    assert_eq!(
        (status.as_u16(), &told["reason"]),
        (429, &json!("RESOURCE_EXHAUSTED"))
    );
    assert!(
        told["detail"].as_str().unwrap().contains("sessions"),
        "{told}"
    );
    let other = rig.control_plane.api_key(&["data_analyst"], false).await;
    let (_other, _) = open(&rig.edge.url, &other).await;
    drop(first);
    until_async("there is a place again", async || {
        third().send().await.unwrap().status() == 200
    })
    .await;
}
