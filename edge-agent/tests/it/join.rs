//! Becoming a machine, and staying one.

use serde_json::Value;
use time::format_description::well_known::Rfc3339;

use crate::{
    edge::{Edge, command, content, output},
    rig::{ControlPlane, Rig},
    wait::until,
};

fn join(server: &str, token: &str, dir: &std::path::Path) -> tokio::process::Command {
    let mut command = command();
    command
        .args([
            "join",
            "--server",
            server,
            "--token",
            token,
            "-o",
            "json",
            "--data-dir",
        ])
        .arg(dir);
    command
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_machine_joins_once_and_later_starts_need_no_token() {
    let rig = Rig::start().await;
    let before = content(&rig.edge.identity());
    let edge = rig.edge.kill_and_run().await;
    assert_eq!(content(&edge.identity()), before);
    assert_eq!(edge.client(&rig.api_key).granted().await.0["score"], 570);
}

#[tokio::test]
async fn join_tells_who_the_machine_is_and_keeps_its_files_private() {
    use std::os::unix::fs::PermissionsExt;
    let control_plane = ControlPlane::start().await;
    let token = control_plane.join_token("build-7").await;
    let dir = tempfile::tempdir().unwrap();
    let joined = output(join(&control_plane.url(), &token, dir.path())).await;
    assert!(joined.status.success(), "{}", stderr(&joined));
    let told: Value = serde_json::from_slice(&joined.stdout).unwrap();
    assert_eq!(told["machine_name"], "build-7");
    assert_eq!(told["trust_domain"], "authguardian.local");
    let ends = told["certificate_ends"].as_str().unwrap();
    time::OffsetDateTime::parse(ends, &Rfc3339).unwrap();
    let mode = |path: &str| {
        std::fs::metadata(dir.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("identity"), mode("identity/machine.json")),
        (0o700, 0o600)
    );
    assert!(!dir.path().join("identity/pending.key").exists());

    let again = output(join(&control_plane.url(), &token, dir.path())).await;
    assert_eq!(again.status.code(), Some(5), "{}", stderr(&again));
    assert!(stderr(&again).contains("joined already"));
}

#[tokio::test]
async fn a_join_token_is_good_for_one_machine_and_for_a_lost_reply() {
    let control_plane = ControlPlane::start().await;
    let token = control_plane.join_token("one").await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let joined = output(join(&control_plane.url(), &token, first.path())).await;
    assert!(joined.status.success(), "{}", stderr(&joined));

    let reused = output(join(&control_plane.url(), &token, second.path())).await;
    assert_eq!(reused.status.code(), Some(4), "{}", stderr(&reused));
    assert!(
        stderr(&reused).contains("JOIN_TOKEN_USED"),
        "{}",
        stderr(&reused)
    );
}

#[tokio::test]
async fn a_server_that_the_token_is_not_for_is_not_joined() {
    let (control_plane, other) = (ControlPlane::start().await, ControlPlane::start().await);
    let token = control_plane.join_token("one").await;
    let dir = tempfile::tempdir().unwrap();
    let refused = output(join(&other.url(), &token, dir.path())).await;
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("JOIN_TOKEN_INVALID"),
        "{}",
        stderr(&refused)
    );
    assert!(!dir.path().join("identity/machine.json").exists());

    let nobody = output(join("https://127.0.0.1:1", &token, dir.path())).await;
    assert_eq!(nobody.status.code(), Some(6), "{}", stderr(&nobody));
    let joined = output(join(&control_plane.url(), &token, dir.path())).await;
    assert!(joined.status.success(), "{}", stderr(&joined));
}

#[tokio::test]
async fn an_edge_without_an_identity_says_how_to_get_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = command();
    run.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--listen-websocket",
        "",
        "--data-dir",
    ])
    .arg(dir.path());
    let refused = output(run).await;
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        stderr(&refused).contains("edge-agent join"),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn an_edge_ends_with_its_parent() {
    let control_plane = ControlPlane::start().await;
    let mut edge = Edge::start(&control_plane, "host").await;
    assert_eq!(edge.orphan().await, Some(0));
}

#[tokio::test]
async fn a_second_edge_on_one_directory_is_refused() {
    let rig = Rig::start().await;
    let mut run = command();
    run.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--listen-websocket",
        "",
        "--data-dir",
    ])
    .arg(rig.edge.dir.path());
    let refused = output(run).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("in use by another edge-agent"),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn the_certificate_is_renewed_while_calls_go_on() {
    // short-lived beyond what the configuration allows; it begins backdated,
    // so that renewal is due at once and then every few seconds
    let control_plane =
        ControlPlane::start_with(|config| config.identity.certificate_ttl_seconds = 60).await;
    control_plane.agent("data_analyst", 800).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = Edge::start(&control_plane, "host").await;
    let first = content(&edge.identity());
    until("the certificate is renewed", || {
        content(&edge.identity()) != first
    })
    .await;
    assert!(!edge.dir.path().join("identity/next.json").exists());
    assert!(!edge.dir.path().join("identity/pending.key").exists());
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);

    // new connections use it
    let control_plane = control_plane.restart().await;
    let second = content(&edge.identity());
    until("it is renewed again", || {
        content(&edge.identity()) != second
    })
    .await;
    let edge = edge.kill_and_run().await;
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);
    drop(control_plane);
}
