//! `control-plane serve`, `migrate` and `doctor`, as processes.

use std::{fs, process::Stdio};

use control_plane::{
    db::private_postgres::{Options, PrivatePostgres},
    identity::Purpose,
    testing::TestDatabase,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::wait::DEADLINE;

fn command(verb: &str, database_url: &str, files: &TempDir) -> Command {
    let key = files.path().join("master.key");
    if !key.exists() {
        fs::write(&key, "07".repeat(32)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command
        .arg(verb)
        .env("AUTHGUARDIAN_DATABASE__URL", database_url)
        .env("AUTHGUARDIAN_IDENTITY__MASTER_KEY_FILE", key)
        .env("AUTHGUARDIAN_LOG__FORMAT", "json")
        .args(["--set", "listen.http=127.0.0.1:0"])
        .args(["--set", "listen.admin_grpc=127.0.0.1:0"])
        .args(["--set", "listen.edge_grpc=127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The address of the http listener, from the log, once it is ready.
async fn http_when_ready(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "ready" {
                return line["http"].as_str().unwrap().to_owned();
            }
        }
        panic!("it ended before it was ready");
    };
    let address = tokio::time::timeout(DEADLINE, ready).await.unwrap();
    // the pipe has to be read, or the log would block
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    address
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_daemon_serves_until_it_is_told_to_stop() {
    let (database, files) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = command("serve", &database.url(), &files).spawn().unwrap();
        let http = http_when_ready(&mut child).await;
        let ready = reqwest::get(format!("http://{http}/readyz")).await.unwrap();
        assert_eq!(ready.status(), 200);
        let keys = reqwest::get(format!("http://{http}/.well-known/jwks.json"));
        let keys: Value = keys.await.unwrap().json().await.unwrap();
        assert_eq!(keys["keys"][0]["crv"], "Ed25519");
        send(&child, signal);
        let status = tokio::time::timeout(DEADLINE, child.wait()).await.unwrap();
        assert_eq!(status.unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn another_master_key_refuses_the_start() {
    let (database, files) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    let mut child = command("serve", &database.url(), &files).spawn().unwrap();
    http_when_ready(&mut child).await;
    send(&child, Signal::TERM);
    child.wait().await.unwrap();
    fs::write(files.path().join("master.key"), "08".repeat(32)).unwrap();
    let output = command("serve", &database.url(), &files).output().await;
    assert_ne!(output.unwrap().status.code(), Some(0));
    fs::remove_file(files.path().join("master.key")).unwrap();
    let mut missing = command("serve", &database.url(), &files);
    let elsewhere = files.path().join("nowhere");
    missing.env("AUTHGUARDIAN_IDENTITY__MASTER_KEY_FILE", elsewhere);
    assert_eq!(missing.output().await.unwrap().status.code(), Some(2));
}

#[tokio::test]
async fn another_master_key_takes_over_when_the_keys_are_rewrapped() {
    let (database, files) = (TestDatabase::new().await, tempfile::tempdir().unwrap());
    let mut child = command("serve", &database.url(), &files).spawn().unwrap();
    http_when_ready(&mut child).await;
    let path = files.path().join("master.key");
    let (old, new) = (fs::read_to_string(&path).unwrap(), "08".repeat(32));
    fs::write(&path, format!("{new}\n{old}\n")).unwrap();
    let rewrap = async || {
        let mut rewrap = command("rewrap-keys", &database.url(), &files);
        let output = rewrap.args(["-o", "json"]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (told["rewrapped"].clone(), told["unchanged"].clone())
    };
    let keys = Purpose::ALL.len();
    assert_eq!(rewrap().await, (keys.into(), 0.into()));
    assert_eq!(rewrap().await, (0.into(), keys.into()));
    send(&child, Signal::TERM);
    child.wait().await.unwrap();

    fs::write(&path, old).unwrap();
    let refused = command("serve", &database.url(), &files).output().await;
    assert_eq!(refused.unwrap().status.code(), Some(1));
    fs::write(&path, new).unwrap();
    let mut child = command("serve", &database.url(), &files).spawn().unwrap();
    http_when_ready(&mut child).await;
}

#[tokio::test]
async fn a_fresh_database_has_to_be_migrated_first_and_the_doctor_says_so() {
    let files = tempfile::tempdir().unwrap();
    let postgres = PrivatePostgres::start(Options::new(files.path().join("postgres"))).await;
    let postgres = postgres.unwrap();
    let url = postgres.url();

    let refused = command("serve", &url, &files).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(6));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("control-plane migrate"), "{said}");
    let ill = diagnosis(&url, &files).await;
    assert_eq!((ill.0, ill.1["schema"].as_str()), (1, Some("failed")));

    for _ in 0..2 {
        let migrated = command("migrate", &url, &files).output().await.unwrap();
        assert_eq!(migrated.status.code(), Some(0));
    }
    let well = diagnosis(&url, &files).await;
    assert_eq!((well.0, well.1["schema"].as_str()), (1, Some("ok")));
    assert_eq!(
        well.1["master key"], "failed",
        "everybody may read it in this test"
    );
    postgres.stop().await;
}

/// Exit code, and verdict by check.
async fn diagnosis(url: &str, files: &TempDir) -> (i32, Value) {
    let output = command("doctor", url, files).args(["-o", "json"]).output();
    let output = output.await.unwrap();
    let page: Value = serde_json::from_slice(&output.stdout).unwrap();
    let verdicts = page["items"].as_array().unwrap().iter().map(|finding| {
        (
            finding["check"].as_str().unwrap().to_owned(),
            finding["verdict"].clone(),
        )
    });
    (output.status.code().unwrap(), verdicts.collect())
}
