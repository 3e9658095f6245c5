//! A JSON Schema validator that is not ours.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::wait::DEADLINE;

/// A program of the environment that `deploy/scripts/ensure schemathesis` makes.
pub(super) fn python() -> Command {
    let tools = std::env::var("AUTHGUARDIAN_TEST_TOOLS").unwrap_or_else(|_| {
        panic!("AUTHGUARDIAN_TEST_TOOLS is not set: run `make test`, which prepares schemathesis")
    });
    let mut command = Command::new(Path::new(&tools).join("schemathesis/bin/python3"));
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What is wrong with each value.
pub(super) async fn errors(schema: &Value, values: &[Value]) -> Vec<Vec<String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openapi/validate.py");
    let mut child = python()
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let work = json!({ "schema": schema, "values": values }).to_string();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(work.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}
