//! The official Python client, in both of its modes, over HTTP and stdio.

use std::process::Stdio;

use tokio::process::Command;

use crate::{edge::BINARY, rig::Rig, wait::DEADLINE};

/// Python with the official client; `make test` sets it.
const PYTHON: &str = "AUTHGUARDIAN_TEST_PYTHON";

async fn walk(mode: &str, transport: &str) {
    let rig = Rig::start().await;
    let python = std::env::var(PYTHON).unwrap_or_else(|_| {
        panic!("{PYTHON} is not set: run `make test`, which prepares a Python with the MCP client")
    });
    let mut command = Command::new(python);
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/python_client.py"
        ))
        .args([
            "--mode",
            mode,
            "--transport",
            transport,
            "--url",
            &format!("{}/mcp", rig.edge.url),
        ])
        .args(["--edge-agent", BINARY, "--socket"])
        .arg(&rig.edge.socket)
        .env("AUTHGUARDIAN_API_KEY", &rig.api_key)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .unwrap()
        .unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        told(&output.stdout),
        told(&output.stderr)
    );
}

#[tokio::test]
async fn the_official_client_over_http_without_sessions() {
    walk("auto", "http").await;
}

#[tokio::test]
async fn the_official_client_over_http_with_a_session() {
    walk("legacy", "http").await;
}

#[tokio::test]
async fn the_official_client_over_stdio_without_sessions() {
    walk("auto", "stdio").await;
}

#[tokio::test]
async fn the_official_client_over_stdio_with_a_session() {
    walk("legacy", "stdio").await;
}
