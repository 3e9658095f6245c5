//! `GET /sse` and `POST /messages`: the transport HTTP+SSE of MCP revision
//! 2024-11-05, deprecated since 2025-03-26, for clients that know no other.

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use futures::stream;
use rmcp::ServerHandler;
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    MakeHandler,
    bound::{Bound, Place},
    conversation::{Conversation, Outbox, Outgoing, Refusal},
    problem,
    serve::Line,
};
use crate::core::{AnswerBy, Caller, Core};

/// A comment is sent after this long without a message, so that whatever stands
/// between keeps the connection, and a client that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The face and its sessions.
pub(super) struct Face<M> {
    core: Arc<Core>,
    make: M,
    sessions: Arc<Bound>,
    requests: Arc<Bound>,
    open: Arc<Open>,
    stop: CancellationToken,
}

/// The open streams, by the ids of their sessions.
#[derive(Default)]
struct Open(Mutex<HashMap<String, Session>>);

#[derive(Clone)]
struct Session {
    owner: ApiKeyId,
    conversation: Arc<Conversation>,
}

/// Where messages go.
#[derive(Deserialize)]
pub(super) struct To {
    #[serde(rename = "sessionId")]
    session_id: String,
}

impl<M> Face<M> {
    pub(super) fn new(
        core: Arc<Core>,
        make: M,
        sessions: Arc<Bound>,
        requests: Arc<Bound>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            make,
            sessions,
            requests,
            open: Arc::default(),
            stop,
        })
    }
}

/// `GET /sse`: begins a session, and streams its messages until its credential
/// ends.
pub(super) async fn open<H: ServerHandler, M: MakeHandler<H>>(
    State(face): State<Arc<Face<M>>>,
    Extension(caller): Extension<Caller>,
    Extension(line): Extension<Line>,
) -> Response {
    let owner = caller.api_key_id();
    let place = match face.sessions.enter_to_stay(owner) {
        Ok(place) => place,
        Err(problem) => return problem::respond(&problem),
    };
    let handler = (face.make)(face.core.clone());
    let (conversation, outbox) = Conversation::begin(handler, face.requests.clone(), &face.stop);
    let id = face.core.ambient().uuid().simple().to_string();
    let session = Session {
        owner,
        conversation: Arc::new(conversation),
    };
    face.open.lock().insert(id.clone(), session);
    let (core, stop) = (face.core.clone(), face.stop.clone());
    let stream = Stream {
        first: Some(frame("endpoint", &format!("/messages?sessionId={id}"))),
        outbox,
        answer: line.answer,
        quiet: Box::pin(sleep(KEEP_ALIVE)),
        ended: Box::pin(async move {
            tokio::select! {
                () = core.credential_ended(&caller) => {}
                () = stop.cancelled() => {}
            }
        }),
        _entry: Entry {
            open: face.open.clone(),
            id,
            _place: place,
        },
    };
    let frames = stream::unfold(stream, async |mut stream| {
        let frame = stream.next().await?;
        Some((Ok::<_, Infallible>(frame), stream))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // proxies that buffer by default let it through
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// `POST /messages?sessionId=…`: hands one message to its session, whose stream
/// brings the answer.
pub(super) async fn post<M: Send + Sync + 'static>(
    State(face): State<Arc<Face<M>>>,
    to: Result<Query<To>, QueryRejection>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let Ok(Query(To { session_id })) = to else {
        let detail = "expected `/messages?sessionId=…`, as the stream's first event names it";
        return problem::respond(&Problem::invalid("sessionId", detail));
    };
    let session = face.open.lock().get(&session_id).cloned();
    let Some(Session {
        owner,
        conversation,
    }) = session
    else {
        return problem::not_found("there is no such session; open `/sse` again".to_owned());
    };
    if owner != caller.api_key_id() {
        let detail = "this MCP session was begun with another API key";
        return problem::respond(&Problem::new(Reason::PermissionDenied, detail));
    }
    match conversation.take(&body, &caller).await {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Err(Refusal::Problem { problem, .. }) => problem::respond(&problem),
        Err(refusal) => match Outgoing::refusal(&refusal) {
            Some(told) => problem::json_rpc(told.text),
            None => problem::not_found("the session has ended; open `/sse` again".to_owned()),
        },
    }
}

/// One open stream.
struct Stream {
    first: Option<Bytes>,
    outbox: Outbox,
    /// The limit of what the connection sends next.
    answer: AnswerBy,
    quiet: Pin<Box<Sleep>>,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    _entry: Entry,
}

/// The session among the open ones, until the stream is dropped.
struct Entry {
    open: Arc<Open>,
    id: String,
    _place: Place,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let frame = tokio::select! {
            biased;
            () = &mut self.ended => return None,
            outgoing = self.outbox.recv() => {
                let Outgoing { text, by, .. } = outgoing?;
                self.answer.tighten(&by);
                frame("message", &text)
            }
            () = &mut self.quiet => Bytes::from_static(b": still here\n\n"),
        };
        self.quiet.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Some(frame)
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}

/// One event; JSON as `serde_json` writes it has no line breaks.
fn frame(event: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {event}\ndata: {data}\n\n"))
}
