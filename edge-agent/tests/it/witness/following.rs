//! What an edge keeps while the log is what it was.

use authguardian_proto::checkpoint::Checkpoint;
use control_plane::audit::log;
use serde_json::Value;

use super::Watched;
use crate::{
    edge::{asking, command, output},
    rig::Rig,
    wait::until_async,
};

#[tokio::test]
async fn an_edge_keeps_checkpoints_as_the_log_grows_also_after_a_kill() {
    let watched = Watched::start().await;
    let first = watched.act(300).await;
    let kept = watched.keeps(&first).await;
    assert_eq!(kept.origin, first.origin);

    let note = watched.checkpoint(&[]).await;
    let key = watched.checkpoint(&["--key"]).await;
    let opened = Checkpoint::open(&note, &[key.parse().unwrap()]).unwrap();
    assert!(opened.size >= first.head.size.unsigned_abs());
    assert_eq!(watched.found(&note).await, [""; 0]);
    let document: Value = serde_json::from_str(&watched.checkpoint(&["-o", "json"]).await).unwrap();
    assert_eq!(document["origin"], first.origin);
    assert!(document["size"].as_u64().unwrap() >= opened.size);
    let again = document["checkpoint"].as_str().unwrap();
    let key = document["verifier_key"].as_str().unwrap().parse().unwrap();
    assert!(Checkpoint::open(again, &[key]).is_ok());
    assert_eq!(document["ended"], Value::Array(Vec::new()));

    let watched = watched.killed_and_run().await;
    let status = watched.status().await;
    assert!(status["size"].as_u64() >= Some(opened.size), "{status}");
    let second = watched.act(300).await;
    watched.keeps(&second).await;
    // what it has kept is told when it looks the next time
    watched.looks(2).await;
    let witness = watched.witness().await;
    assert!(witness.consistent);
    assert!(
        witness.size >= second.head.size.unsigned_abs(),
        "{witness:?}"
    );
    let status = watched.status().await;
    assert_eq!(status.get("refused"), None, "{status}");
    assert_eq!(watched.found(&note).await, [""; 0]);
}

#[tokio::test]
async fn before_the_first_checkpoint_there_is_none_to_print() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        &[][..],
        &["--key"],
        &["-o", "json"],
        &["--origin", "x/audit/1"],
    ] {
        let mut command = command();
        command.arg("checkpoint").args(arguments);
        command.arg("--data-dir").arg(dir.path());
        let output = output(command).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        assert_eq!(output.stdout, b"");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("no checkpoint of the audit log"), "{said}");
    }
}

#[tokio::test]
async fn an_edge_goes_over_to_the_log_of_a_restored_database() {
    let watched = Watched::start().await;
    let old = watched.act(20).await;
    watched.keeps(&old).await;
    begin_another(&watched).await;
    let new = watched.act(3).await;
    assert_ne!(new.origin, old.origin);
    watched.keeps(&new).await;
    let document = watched.checkpoint(&["-o", "json"]).await;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["ended"][0]["origin"], old.origin);
    assert_eq!(document["ended"][0]["why"], "restored");
    let evidence = watched.checkpoint(&["--origin", &old.origin]).await;
    assert_eq!(document["ended"][0]["checkpoint"], evidence);
    assert_eq!(watched.found(&evidence).await, [""; 0]);
    assert_eq!(watched.told("STALE").await, 0);
}

/// As after a restore that was fenced.
pub(super) async fn begin_another(watched: &Watched) {
    let app = &watched.control_plane.app;
    let domain = watched.newest_log().await.origin;
    let domain = domain.split('/').next().unwrap();
    let mut tx = app.db.begin().await.unwrap();
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM installation")
        .fetch_one(&mut *tx)
        .await
        .unwrap();
    log::end_and_begin(&mut tx, &app.ambient, domain, epoch)
        .await
        .unwrap();
    app.db.commit(tx).await.unwrap();
}

#[tokio::test]
async fn own_entries_say_where_they_stand_once_they_are_sealed() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    client
        .call("request_permission", asking("data_analyst"))
        .await;
    let entries = async || client.resource("grants://audit").await["entries"].clone();
    until_async("the entries are sealed", async || {
        let entries = entries().await;
        let entries = entries.as_array().unwrap();
        !entries.is_empty() && entries.iter().all(|entry| entry["sealed"] == true)
    })
    .await;
    let mut connection = rig.control_plane.app.db.read().await.unwrap();
    for entry in entries().await.as_array().unwrap() {
        let index = i64::try_from(entry["index"].as_u64().unwrap()).unwrap();
        let sequence: i64 = sqlx::query_scalar(
            "SELECT sequence FROM sealed_audit_entry JOIN audit_log USING (log)
             WHERE origin = $1 AND index = $2",
        )
        .bind(entry["origin"].as_str())
        .bind(index)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert_eq!(entry["sequence"], sequence, "{entry}");
    }
}

#[tokio::test]
async fn an_interval_that_cannot_be_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["run", "--data-dir"]).arg(dir.path());
    command.env("AUTHGUARDIAN_AUDIT__WITNESS_SECONDS", "0");
    let output = output(command).await;
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = "`audit.witness_seconds` is 0, expected 1 to 3600 seconds";
    assert!(said.contains(expected), "{said}");
}
