//! The journal of calls that ended at an edge: what is in it reaches the audit log once.

use std::path::Path;

use control_plane::audit::Record;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::Instant,
};

use crate::{
    audit::entries,
    edge::{Edge, Launch, http},
    proxy::Proxy,
    rig::{ControlPlane, Rig},
    wait::{DEADLINE, until},
};

const ACTION: &str = "tool.revoke_token";
const REASON: &str = "UNAUTHENTICATED";

/// Calls that say nothing of who makes them.
async fn be_refused(edge: &Edge, tool: &str, times: usize) {
    let url = format!("{}/mcp/tools/{tool}", edge.url);
    let http = http();
    for _ in 0..times {
        let refused = http.post(&url).json(&json!({})).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
}

/// Lines of the journal of an edge, first lines of files apart.
fn lines(edge: &Edge) -> usize {
    let files = std::fs::read_dir(edge.dir.path().join("journal")).unwrap();
    let content = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let lines = |path: &Path| content(path).lines().count().saturating_sub(1);
    files.map(|file| lines(&file.unwrap().path())).sum()
}

/// Waits until the journal has nothing more to tell.
async fn told(edge: &Edge) {
    until("the journal has told all", || lines(edge) == 0).await;
}

fn count(entries: &[Record]) -> i64 {
    entries.iter().map(|entry| entry.count).sum()
}

/// Asserts how many calls of a tool stand in the log, now and from the beginning.
async fn assert_told(control_plane: &ControlPlane, edge: &Edge, tool: &str, calls: i64) {
    told(edge).await;
    let action = format!("tool.{tool}");
    let found = entries(control_plane, (&action, REASON), calls).await;
    assert_eq!(count(&found), calls, "{found:#?}");
}

#[tokio::test]
async fn a_killed_edge_tells_all_once_it_runs_and_the_control_plane_is_back() {
    let rig = Rig::start().await;
    let (edge, stopped) = (rig.edge, rig.control_plane.stop().await);
    be_refused(&edge, "revoke_token", 7).await;
    be_refused(&edge, "validate_token", 3).await;
    // at any time: also while the last ones are just being closed
    let edge = edge.kill().await.run_unready().await;
    be_refused(&edge, "revoke_token", 5).await;
    until("a batch is closed", || {
        std::fs::read_dir(edge.dir.path().join("journal"))
            .unwrap()
            .count()
            > 1
    })
    .await;
    let edge = edge.kill().await.run_unready().await;
    be_refused(&edge, "validate_token", 4).await;
    let left = edge.kill().await;
    let back = stopped.start().await;
    let edge = left.run_again().await;
    assert_told(&back, &edge, "revoke_token", 12).await;
    assert_told(&back, &edge, "validate_token", 7).await;
}

#[tokio::test]
async fn what_was_written_while_replies_were_lost_is_written_once() {
    let control_plane = ControlPlane::start().await;
    let proxy = Proxy::to(control_plane.edge_grpc).await;
    let launch = Launch::at(&[proxy.url()]);
    let edge = Edge::start_with(&control_plane, "host", launch).await;

    proxy.hold_answers();
    be_refused(&edge, "revoke_token", 6).await;
    // the others may come with what is sent again
    let written = entries(&control_plane, (ACTION, REASON), 1).await;
    assert!(count(&written) <= 6, "{written:#?}");
    be_refused(&edge, "revoke_token", 2).await;
    // no answer comes any more: all of it is sent again
    proxy.hang_up();
    proxy.mend();
    assert_told(&control_plane, &edge, "revoke_token", 8).await;

    // nor does the edge live to hear one
    proxy.hold_answers();
    be_refused(&edge, "revoke_token", 4).await;
    let written = entries(&control_plane, (ACTION, REASON), 9).await;
    assert!(count(&written) <= 12, "{written:#?}");
    let left = edge.kill().await;
    proxy.hang_up();
    proxy.mend();
    let edge = left.run_again().await;
    be_refused(&edge, "revoke_token", 1).await;
    assert_told(&control_plane, &edge, "revoke_token", 13).await;
}

/// Sends the same call again and again on one connection, and reads that each was refused.
async fn flood(address: String, calls: usize) {
    /// Sent before answers are waited for.
    const AT_ONCE: usize = 100;
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let call = format!(
        "POST /mcp/tools/revoke_token HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let many = call.repeat(AT_ONCE);
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..calls / AT_ONCE {
        stream.write_all(many.as_bytes()).await.unwrap();
        let (mut text, mut refused) = (Vec::new(), 0);
        while refused < AT_ONCE || !text.ends_with(b"}") {
            let reading = tokio::time::timeout(DEADLINE, stream.read(&mut buffer));
            let read = reading.await.unwrap().unwrap();
            assert!(read > 0, "closed after {refused}");
            text.extend_from_slice(&buffer[..read]);
            let answers = String::from_utf8_lossy(&text);
            refused = answers.matches("HTTP/1.1 401 ").count();
            assert_eq!(refused, answers.matches("HTTP/1.1 ").count(), "{answers}");
        }
    }
}

#[tokio::test]
async fn a_flood_of_100_000_refused_calls_is_a_few_rows_with_the_exact_count() {
    const CONNECTIONS: usize = 4;
    let rig = Rig::start().await;
    let address = rig.edge.url.trim_start_matches("http://").to_owned();
    let began = Instant::now();
    let mut floods = JoinSet::new();
    for _ in 0..CONNECTIONS {
        floods.spawn(flood(address.clone(), 100_000 / CONNECTIONS));
    }
    while let Some(ended) = floods.join_next().await {
        ended.unwrap();
    }
    told(&rig.edge).await;
    let seconds = began.elapsed().as_secs() + 2;
    let found = entries(&rig.control_plane, (ACTION, REASON), 100_000).await;
    assert_eq!(count(&found), 100_000);
    // each second is one, or where it was closed just then, two
    let rows = u64::try_from(found.len()).unwrap();
    assert!(rows <= 2 * seconds, "{rows} rows in {seconds} s");
}
