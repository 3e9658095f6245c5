//! MCP over stdin and stdout, as a bridge to the running edge: every line goes
//! to `/mcp` on the Unix socket, everything that comes back becomes a line. It
//! holds no state of its own besides the MCP session.

use std::{path::Path, sync::Arc};

use authguardian_proto::credential::ApiKey;
use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};

mod bridge;
mod http;
mod login;
mod message;
mod sse;

use bridge::Bridge;
use http::Http;

/// Lines that wait for a slow reader of stdout.
const PENDING_LINES: usize = 256;

/// Bridges until `input` ends and every answer has been written.
///
/// # Errors
/// When `input` or `output` fail; a missing edge is told to the client as
/// JSON-RPC errors.
pub async fn run<R, W>(
    socket: &Path,
    api_key: ApiKey,
    input: R,
    mut output: W,
) -> std::io::Result<()>
where
    R: AsyncBufRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (lines, mut pending) = mpsc::channel::<String>(PENDING_LINES);
    let writer = tokio::spawn(async move {
        while let Some(mut line) = pending.recv().await {
            line.push('\n');
            output.write_all(line.as_bytes()).await?;
            output.flush().await?;
        }
        std::io::Result::Ok(())
    });
    let bridge = Arc::new(Bridge::new(Http::new(socket.to_owned(), api_key), lines));
    let staying = bridge.clone();
    let staying = tokio::spawn(async move { staying.stay_logged_in().await });
    let mut tasks = JoinSet::new();
    let mut input = input.lines();
    while let Some(line) = input.next_line().await? {
        while tasks.try_join_next().is_some() {}
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Value>(&line) {
            Ok(message) => bridge.take(message, line, &mut tasks).await,
            Err(error) => bridge.refuse_line(&error).await,
        }
    }
    bridge.end_streams();
    while tasks.join_next().await.is_some() {}
    staying.abort();
    // it holds the way to stdout
    let _ = staying.await;
    bridge.close().await;
    drop(bridge);
    writer.await.unwrap_or(Ok(()))
}
