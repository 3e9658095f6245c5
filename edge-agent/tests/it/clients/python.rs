//! The official Python clients: `mcp` 1 of before revision 2026-07-28, and
//! `mcp` 2 in both of its modes.

use tokio::process::Command;

use super::{source, tool, walk};

fn mcp_1() -> Command {
    script("mcp-1", "mcp_1.py")
}

fn mcp_2() -> Command {
    script("mcp-2", "mcp_2.py")
}

fn script(environment: &str, name: &str) -> Command {
    let mut python = tool(&format!("clients/{environment}/bin/python3"));
    python
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(source("edge-agent/tests/it/clients/python").join(name));
    python
}

#[tokio::test]
async fn mcp_1_over_http() {
    walk(mcp_1(), "http", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_1_over_sse() {
    walk(mcp_1(), "sse", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_1_over_a_websocket() {
    walk(mcp_1(), "ws", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_1_over_stdio() {
    walk(mcp_1(), "stdio", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_2_over_http_with_a_session() {
    walk(mcp_2(), "http", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_2_over_http_without_sessions() {
    walk(mcp_2(), "http", "2026-07-28").await;
}

#[tokio::test]
async fn mcp_2_over_sse() {
    walk(mcp_2(), "sse", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_2_over_stdio_with_a_session() {
    walk(mcp_2(), "stdio", "2025-11-25").await;
}

#[tokio::test]
async fn mcp_2_over_stdio_without_sessions() {
    walk(mcp_2(), "stdio", "2026-07-28").await;
}
