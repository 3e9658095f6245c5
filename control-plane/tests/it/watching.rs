//! Watching, as an operator's script does it: into a pipe.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{
    operator::{Operator, told},
    wait::DEADLINE,
};

/// A watch that runs, and its documents.
struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    fn start(operator: &Operator, verb: &[&str]) -> Self {
        let args = [verb, &["--watch=1", "-o", "json"]].concat();
        let mut child = operator.command(&args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line());
        serde_json::from_str(&line.await.unwrap().unwrap().unwrap()).unwrap()
    }

    /// Waits for its end; exit code and stderr.
    async fn end(self) -> (Option<i32>, String) {
        let output = tokio::time::timeout(DEADLINE, self.child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

#[tokio::test]
async fn a_watch_tells_what_changed_and_ends_quietly_on_an_interrupt() {
    let operator = Operator::start().await;
    let mut agents = Watch::start(&operator, &["agent", "list"]);
    assert_eq!(agents.next().await["items"], serde_json::json!([]));
    operator
        .json(&["agent", "put", "scout", "--trust", "500"])
        .await;
    // no document in between: nothing else has changed
    assert_eq!(agents.next().await["items"][0]["agent_id"], "scout");

    let pid = i32::try_from(agents.child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::INT).unwrap();
    assert_eq!(agents.end().await, (Some(0), String::new()));
}

#[tokio::test]
async fn grants_machines_and_the_status_are_watched() {
    let operator = Operator::start().await;
    let mut grants = Watch::start(&operator, &["grant", "list", "--state", "active"]);
    let mut machines = Watch::start(&operator, &["machine", "list"]);
    let mut status = Watch::start(&operator, &["status"]);
    for list in [&mut grants, &mut machines] {
        assert_eq!(list.next().await["items"], serde_json::json!([]));
    }
    assert_eq!(status.next().await["active_grants"], 0);
    let session = operator.rig.analyst().await;
    let id = operator.rig.granted(&session).await.record.id.to_string();
    assert_eq!(grants.next().await["items"][0]["id"], id.as_str());
    assert!(machines.next().await["items"][0]["id"].is_string());
    while status.next().await["active_grants"] != 1 {}
    operator.json(&["grant", "revoke", &id]).await;
    assert_eq!(grants.next().await["items"], serde_json::json!([]));
}

#[tokio::test]
async fn a_watch_ends_quietly_when_its_reader_leaves_though_nothing_changes() {
    let operator = Operator::start().await;
    let mut agents = Watch::start(&operator, &["agent", "list"]);
    agents.next().await;
    let Watch { child, lines } = agents;
    drop(lines);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert_eq!(
        (output.status.code(), &output.stderr[..]),
        (Some(0), &b""[..])
    );
}

#[tokio::test]
async fn a_watch_that_cannot_begin_fails_as_a_look_does() {
    let operator = Operator::start().await;
    let nobody = ["status", "--watch", "--server", "https://127.0.0.1:1"];
    assert_eq!(
        operator.refused(&nobody).await,
        (6, "UNAVAILABLE".to_owned())
    );
    let mut too_often = operator.command(&["status", "--watch=0"]);
    too_often.stdout(Stdio::null());
    assert_eq!(told(too_often).await.code, 2);
}
