//! Connections, heads, bodies and requests beyond their bounds.

use std::time::Duration;

use reqwest::{StatusCode, header};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::rig;
use crate::{
    edge::{asking, http, read},
    held::Held,
    rig::Rig,
    wait::{DEADLINE, until_async},
};

const HEAD: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n";

async fn connect(rig: &Rig) -> TcpStream {
    let address = rig.edge.url.trim_start_matches("http://");
    TcpStream::connect(address).await.unwrap()
}

/// Reads until the edge closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // a reset ends it as well
    let reading = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(DEADLINE, reading).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Reads one answer of `/livez`, whose body ends in a newline.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"ok\n") {
        let mut part = [0; 512];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut part))
            .await
            .unwrap()
            .unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&part[..read]);
    }
    String::from_utf8(text).unwrap()
}

async fn is_live(rig: &Rig) -> bool {
    let response = http().get(format!("{}/livez", rig.edge.url)).send().await;
    response.is_ok_and(|response| response.status() == StatusCode::OK)
}

#[tokio::test]
async fn silent_and_slow_clients_are_cut_off_and_hold_up_nobody() {
    let rig = rig(&[
        ("AUTHGUARDIAN_LIMITS__HEADER_TIMEOUT_SECONDS", "1"),
        ("AUTHGUARDIAN_LIMITS__IDLE_TIMEOUT_SECONDS", "2"),
    ])
    .await;
    let began = Instant::now();
    let mut silent = connect(&rig).await;
    let mut slow = connect(&rig).await;
    let mut kept = connect(&rig).await;
    kept.write_all(format!("{HEAD}\r\n").as_bytes())
        .await
        .unwrap();
    answer(&mut kept).await;

    // a byte now and then wins no time
    let trickle = tokio::spawn(async move {
        for byte in HEAD.bytes().cycle() {
            if slow.write_all(&[byte]).await.is_err() {
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        unreachable!("it goes on for ever")
    });
    assert!(is_live(&rig).await);
    assert_eq!(rest(&mut silent).await, "");
    assert!(began.elapsed() >= Duration::from_secs(1));
    let cut = tokio::time::timeout(DEADLINE, trickle)
        .await
        .unwrap()
        .unwrap();
    assert!(cut >= Duration::from_secs(1));

    // between requests there is more time, and the next head has its own
    kept.write_all(format!("{HEAD}\r\n").as_bytes())
        .await
        .unwrap();
    answer(&mut kept).await;
    let quiet = Instant::now();
    assert_eq!(rest(&mut kept).await, "");
    let idle = quiet.elapsed();
    assert!(idle >= Duration::from_millis(1900), "{idle:?}");
    assert!(is_live(&rig).await);
}

#[tokio::test]
async fn a_second_head_has_to_come_in_time_too() {
    let rig = rig(&[("AUTHGUARDIAN_LIMITS__HEADER_TIMEOUT_SECONDS", "1")]).await;
    let mut stream = connect(&rig).await;
    stream
        .write_all(format!("{HEAD}\r\n").as_bytes())
        .await
        .unwrap();
    answer(&mut stream).await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let began = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    // far from the two minutes that a connection may be idle
    assert!(began.elapsed() < Duration::from_mins(1));
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_at_once_and_places_come_back() {
    let rig = rig(&[("AUTHGUARDIAN_LIMITS__MAX_CONNECTIONS", "3")]).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&rig).await;
        stream
            .write_all(format!("{HEAD}\r\n").as_bytes())
            .await
            .unwrap();
        answer(&mut stream).await;
        places.push(stream);
    }
    let mut beyond = connect(&rig).await;
    assert_eq!(rest(&mut beyond).await, "");
    // the Unix socket has places of its own
    let socket = reqwest::Client::builder()
        .unix_socket(rig.edge.socket.clone())
        .build()
        .unwrap();
    let live = socket.get("http://localhost/livez").send().await.unwrap();
    assert_eq!(live.status(), StatusCode::OK);
    drop(places);
    until_async("there is a place again", async || is_live(&rig).await).await;
}

#[tokio::test]
async fn heads_and_bodies_beyond_their_bounds_are_refused() {
    let rig = rig(&[
        ("AUTHGUARDIAN_LIMITS__MAX_HEADER_BYTES", "4096"),
        ("AUTHGUARDIAN_LIMITS__MAX_BODY_BYTES", "2048"),
        ("AUTHGUARDIAN_LIMITS__BODY_TIMEOUT_SECONDS", "1"),
    ])
    .await;
    let large_head = http()
        .get(format!("{}/livez", rig.edge.url))
        .header("x-large", "x".repeat(20_000));
    let status = large_head.send().await.unwrap().status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

    let post = |body: String| {
        let client = rig.edge.client(&rig.api_key);
        client.post("revoke_token").body(body)
    };
    let (status, body) = read(post("x".repeat(2049)).send().await.unwrap()).await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("TOO_LARGE"))
    );

    let mut stream = connect(&rig).await;
    let begun = format!(
        "POST /mcp/tools/revoke_token HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Length: 100\r\n\r\n{{",
        rig.api_key
    );
    stream.write_all(begun.as_bytes()).await.unwrap();
    let told = rest(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    assert!(told.contains("did not arrive in time"), "{told}");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_back() {
    let rig = rig(&[
        ("AUTHGUARDIAN_LIMITS__MAX_REQUESTS", "2"),
        ("AUTHGUARDIAN_LIMITS__MAX_REQUESTS_PER_KEY", "1"),
    ])
    .await;
    let other = rig.control_plane.api_key(&["orchestrator"], false).await;
    // both are logged in before anything is held
    for key in [&rig.api_key, &other] {
        rig.edge.client(key).resource("grants://active").await;
    }
    let ask = |key: &str, agent: &'static str| {
        let client = rig.edge.client(key);
        async move {
            let request = client.post("request_permission").json(&asking(agent));
            let response = request.send().await.unwrap();
            let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
            let (status, body) = read(response).await;
            (status, body, retry_after)
        }
    };
    let held = Held::begin(&rig).await;
    let first = tokio::spawn(ask(&rig.api_key, "data_analyst"));
    held.is_waited_for().await;

    let (status, body, retry_after) = ask(&rig.api_key, "data_analyst").await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("RESOURCE_EXHAUSTED"))
    );
    assert_eq!(retry_after.unwrap(), "1");
    assert!(
        body["detail"].as_str().unwrap().contains("API key"),
        "{body}"
    );

    // another key still has a place, and then there is none for anybody; who
    // looks takes one for a moment, so the second may be told to come back
    let client = rig.edge.client(&other);
    let second = tokio::spawn(async move {
        loop {
            let (status, _) = client
                .try_call("request_permission", asking("orchestrator"))
                .await;
            if status != StatusCode::TOO_MANY_REQUESTS {
                break status;
            }
        }
    });
    until_async("all places are taken", async || {
        let request = rig.edge.client("agk_nonsense").post("revoke_token");
        request.send().await.unwrap().status() == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    assert!(is_live(&rig).await, "health needs no place");

    held.end().await;
    assert_eq!(first.await.unwrap().0, StatusCode::OK);
    assert_eq!(second.await.unwrap(), StatusCode::OK);
    assert_eq!(ask(&rig.api_key, "data_analyst").await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_is_under_way_ends_before_the_edge_does() {
    let mut rig = rig(&[]).await;
    let client = rig.edge.client(&rig.api_key);
    let held = Held::begin(&rig).await;
    let asking = tokio::spawn(async move {
        client
            .call("request_permission", asking("data_analyst"))
            .await
    });
    held.is_waited_for().await;
    let mut idle = connect(&rig).await;
    rig.edge.ask_to_end();
    assert_eq!(
        rest(&mut idle).await,
        "",
        "who asks nothing is not waited for"
    );
    held.end().await;
    assert_eq!(asking.await.unwrap()["decision"], "granted");
    assert_eq!(rig.edge.terminate().await, Some(0));
}
