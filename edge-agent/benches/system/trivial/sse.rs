//! Bare axum: a stream of events, and messages by POST that it answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::StatusCode,
    response::{Sse, sse::Event},
    routing::{get, post},
};
use futures::{Stream, StreamExt};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{message::answer, ready};

/// What waits to be sent.
const OUTBOX: usize = 32;

/// Where the answers of each stream go.
type Open = Arc<Mutex<HashMap<usize, mpsc::Sender<String>>>>;

#[derive(Deserialize)]
struct To {
    #[serde(rename = "sessionId")]
    session: usize,
}

pub(super) async fn serve() -> Result<()> {
    let router = Router::new()
        .route("/sse", get(open))
        .route("/messages", post(take))
        .with_state(Open::default());
    Ok(axum::serve(ready().await?, router).await?)
}

async fn open(
    State(open): State<Open>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + Send> {
    let (answers, to_send) = mpsc::channel(OUTBOX);
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    let session = open.len();
    open.insert(session, answers);
    let endpoint = Event::default().event("endpoint");
    let endpoint = endpoint.data(format!("/messages?sessionId={session}"));
    let answers = ReceiverStream::new(to_send);
    let answers = answers.map(|text| Event::default().event("message").data(text));
    Sse::new(futures::stream::iter([endpoint]).chain(answers).map(Ok))
}

async fn take(State(open): State<Open>, Query(to): Query<To>, body: Bytes) -> StatusCode {
    let Ok(answer) = answer(&body) else {
        return StatusCode::BAD_REQUEST;
    };
    let answers = {
        let open = open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(&to.session).cloned()
    };
    let Some(answers) = answers else {
        return StatusCode::NOT_FOUND;
    };
    if let Some(answer) = answer {
        // whoever has left wants no answer
        let _ = answers.send(answer).await;
    }
    StatusCode::ACCEPTED
}
