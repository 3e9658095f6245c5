//! The official TypeScript clients: `@modelcontextprotocol/sdk` 1 of before
//! revision 2026-07-28, and `@modelcontextprotocol/client` 2 in both of its
//! modes.

use tokio::process::Command;

use super::{source, tool, walk};
use crate::edge::output;

fn sdk_1() -> Command {
    script("sdk_1.mts")
}

fn client_2() -> Command {
    script("client_2.mts")
}

fn script(name: &str) -> Command {
    let mut node = tool("bin/node");
    node.arg(source("edge-agent/tests/it/clients/typescript").join(name));
    node
}

#[tokio::test]
async fn sdk_1_over_http() {
    walk(sdk_1(), "http", "2025-11-25").await;
}

#[tokio::test]
async fn sdk_1_over_sse() {
    walk(sdk_1(), "sse", "2025-11-25").await;
}

#[tokio::test]
async fn sdk_1_over_a_websocket() {
    walk(sdk_1(), "ws", "2025-11-25").await;
}

#[tokio::test]
async fn sdk_1_over_stdio() {
    walk(sdk_1(), "stdio", "2025-11-25").await;
}

#[tokio::test]
async fn client_2_over_http_with_a_session() {
    walk(client_2(), "http", "2025-11-25").await;
}

#[tokio::test]
async fn client_2_over_http_with_a_session_of_an_older_revision() {
    walk(client_2(), "http", "2025-06-18").await;
}

#[tokio::test]
async fn client_2_over_http_without_sessions() {
    walk(client_2(), "http", "2026-07-28").await;
}

#[tokio::test]
async fn client_2_over_sse() {
    walk(client_2(), "sse", "2025-11-25").await;
}

#[tokio::test]
async fn client_2_over_stdio_with_a_session() {
    walk(client_2(), "stdio", "2025-11-25").await;
}

#[tokio::test]
async fn client_2_over_stdio_without_sessions() {
    walk(client_2(), "stdio", "2026-07-28").await;
}

#[tokio::test]
async fn the_typescript_of_tests_and_examples_passes_the_type_checker() {
    let examples = source("deploy/examples/typescript");
    for project in [&examples, &source("edge-agent/tests/it/clients/typescript")] {
        let mut check = tool("bin/node");
        check
            .arg(examples.join("node_modules/typescript/bin/tsc"))
            .arg("--project")
            .arg(project);
        let checked = output(check).await;
        let told = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{told}");
    }
}
