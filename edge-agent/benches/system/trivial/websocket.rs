//! Bare axum: answers messages over WebSocket.

use anyhow::{Result, bail};
use axum::{
    Router,
    extract::ws::{Message, WebSocket, WebSocketUpgrade},
    response::Response,
    routing::get,
};

use super::{message::answer, ready};

pub(super) async fn serve() -> Result<()> {
    let router = Router::new().route("/ws", get(open));
    Ok(axum::serve(ready().await?, router).await?)
}

async fn open(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["mcp"]).on_upgrade(async |socket| {
        // the client sees that it was closed
        let _ = exchange(socket).await;
    })
}

async fn exchange(mut socket: WebSocket) -> Result<()> {
    while let Some(message) = socket.recv().await {
        let Message::Text(text) = message? else {
            bail!("not a text");
        };
        if let Some(answer) = answer(text.as_bytes())? {
            socket.send(Message::Text(answer.into())).await?;
        }
    }
    Ok(())
}
