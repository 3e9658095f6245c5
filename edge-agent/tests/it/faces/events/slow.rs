//! Readers that do not read.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{Events, expire};
use crate::{
    edge::Edge,
    rig::Rig,
    wait::{DEADLINE, until_async},
};

/// Opens a stream and reads no more than its beginning.
async fn begin(edge: &Edge, key: &str) -> (tokio::net::TcpStream, Vec<u8>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = edge.url.trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!(
        "GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {key}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("id: grants:") {
        let read = stream.read_buf(&mut text);
        assert!(tokio::time::timeout(DEADLINE, read).await.unwrap().unwrap() > 0);
    }
    (stream, text)
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_where_to_go_on_and_misses_nothing() {
    const EVENTS: usize = 40_000;
    let rig = Rig::start().await;
    let (mut slow, mut text) = begin(&rig.edge, &rig.api_key).await;
    let mut quick = Events::open(&rig.edge, &rig.api_key).await;
    let mut all = Vec::new();
    while all.len() < EVENTS {
        all.extend(expire(&rig.control_plane, "data_analyst", 4_000).await);
        // the quick one holds the pace, so that the ring has moved on
        quick.events(4_000).await;
    }
    let reading = slow.read_to_end(&mut text);
    tokio::time::timeout(DEADLINE, reading)
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("event: LAGGED").count(), 1);
    let told = text.matches("event: grant.expired").count();
    assert!(told < EVENTS, "it was not slow");
    let last = text.rsplit_once("\ndata: ").unwrap().1;
    let last = last.lines().next().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["reason"], "LAGGED");

    let resume_after = last["resume_after"].as_str().unwrap();
    let mut again = Events::resume(&rig.edge, &rig.api_key, resume_after).await;
    let rest = again.events(EVENTS - told).await;
    assert_eq!(super::grants(&rest), all[told..]);
}

#[tokio::test]
async fn a_reader_that_never_reads_is_cut_off_and_nothing_is_left_of_it() {
    let rig = crate::faces::rig(&[("AUTHGUARDIAN_LIMITS__SEND_TIMEOUT_SECONDS", "1")]).await;
    let (mut stuck, _) = begin(&rig.edge, &rig.api_key).await;
    for _ in 0..8 {
        expire(&rig.control_plane, "data_analyst", 4_000).await;
    }
    let descriptors = format!("/proc/{}/fd", rig.edge.pid());
    let sockets = || std::fs::read_dir(&descriptors).unwrap().count();
    let before = sockets();
    until_async("the edge has closed it", async || sockets() < before).await;
    // what was under way arrives, and then nothing
    let mut rest = Vec::new();
    let reading = stuck.read_to_end(&mut rest);
    let _ = tokio::time::timeout(DEADLINE, reading).await.unwrap();
}
