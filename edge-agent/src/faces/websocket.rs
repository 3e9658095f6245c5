//! `/ws`: MCP over WebSocket (RFC 6455), subprotocol `mcp`. No revision of MCP
//! defines it; stock clients have it.

use std::{sync::Arc, time::Duration};

use authguardian_proto::reason::{Problem, Reason};
use axum::{
    Extension,
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code, rejection},
    },
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use rmcp::ServerHandler;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    MakeHandler,
    bound::Bound,
    conversation::{Conversation, Outbox, Outgoing, Refusal},
    problem,
    serve::Line,
};
use crate::{
    config::Limits,
    core::{AnswerBy, Caller, Core},
};

const SUBPROTOCOL: &str = "mcp";
/// A client is asked for a sign of life this often, and is gone when it has
/// given none until the next time.
const PING: Duration = Duration::from_secs(30);
/// How long the other side may take to close.
const CLOSING: Duration = Duration::from_secs(2);
/// Of what is read and written at a time; messages may be larger.
const BUFFER: usize = 4 * 1024;

/// The face; each connection is a session.
pub(super) struct Face<M> {
    core: Arc<Core>,
    make: M,
    sessions: Arc<Bound>,
    requests: Arc<Bound>,
    /// Bytes.
    max_message: usize,
    stop: CancellationToken,
}

/// Why the edge closes a connection: RFC 6455, section 7.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    /// The edge stops.
    GoingAway,
    /// A message is no text.
    NotText,
    /// The bytes are no WebSocket, or no UTF-8.
    Malformed,
    TooLarge,
    /// The credential counts no more.
    CredentialEnded,
    /// The session behind it ended.
    SessionEnded,
}

impl<M> Face<M> {
    pub(super) fn new(
        core: Arc<Core>,
        make: M,
        sessions: Arc<Bound>,
        requests: Arc<Bound>,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            make,
            sessions,
            requests,
            max_message: usize::try_from(limits.max_body_bytes).unwrap_or(usize::MAX),
            stop,
        })
    }
}

/// `GET /ws`, to be upgraded.
pub(super) async fn open<H: ServerHandler, M: MakeHandler<H>>(
    State(face): State<Arc<Face<M>>>,
    Extension(caller): Extension<Caller>,
    Extension(line): Extension<Line>,
    upgrade: Result<WebSocketUpgrade, rejection::WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return upgrade_required();
    };
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        let detail = format!("expected the subprotocol `{SUBPROTOCOL}`");
        return problem::respond(&Problem::invalid("Sec-WebSocket-Protocol", detail));
    }
    let place = match face.sessions.enter_to_stay(caller.api_key_id()) {
        Ok(place) => place,
        Err(problem) => return problem::respond(&problem),
    };
    upgrade
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(face.max_message)
        .max_frame_size(face.max_message)
        .on_upgrade(async move |socket| {
            // the edge waits for it when it ends
            let Line { answer, open, .. } = line;
            let handler = (face.make)(face.core.clone());
            let (conversation, outbox) =
                Conversation::begin(handler, face.requests.clone(), &face.stop);
            let connection = Connection {
                socket,
                answer,
                conversation,
                outbox,
            };
            connection.serve(&face.core, &caller, &face.stop).await;
            drop((place, open));
        })
}

/// One connection.
struct Connection {
    socket: WebSocket,
    /// The limit of what it sends next.
    answer: AnswerBy,
    conversation: Conversation,
    outbox: Outbox,
}

impl Connection {
    async fn serve(mut self, core: &Core, caller: &Caller, stop: &CancellationToken) {
        let close = match self.exchange(core, caller, stop).await {
            // the session ends with the edge, and may be seen to first
            Some(Close::SessionEnded) if stop.is_cancelled() => Close::GoingAway,
            Some(close) => close,
            None => return,
        };
        self.close(close).await;
    }

    /// Carries messages both ways until one side ends it; why the edge closes,
    /// if it is the edge and there is somebody to tell.
    async fn exchange(
        &mut self,
        core: &Core,
        caller: &Caller,
        stop: &CancellationToken,
    ) -> Option<Close> {
        let held = core.hold(caller);
        let session_over = async {
            match &held {
                Some(held) => held.over().await,
                None => std::future::pending().await,
            }
        };
        let mut credential_ended = std::pin::pin!(async {
            tokio::select! {
                () = core.credential_ended(caller) => {}
                () = session_over => {}
            }
        });
        let mut pings = tokio::time::interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = true;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Some(Close::GoingAway),
                () = &mut credential_ended => return Some(Close::CredentialEnded),
                outgoing = self.outbox.recv() => match outgoing {
                    Some(outgoing) => self.send(outgoing).await.ok()?,
                    None => return Some(Close::SessionEnded),
                },
                received = self.socket.recv() => {
                    heard = true;
                    match received? {
                        Ok(Message::Text(text)) => {
                            if let Err(close) = self.take(text.as_bytes(), core, caller).await? {
                                return Some(close);
                            }
                        }
                        Ok(Message::Binary(_)) => return Some(Close::NotText),
                        // answered by the library
                        Ok(Message::Ping(_) | Message::Pong(_)) => {}
                        Ok(Message::Close(_)) => return None,
                        Err(error) => return broken(error),
                    }
                }
                _ = pings.tick() => {
                    if !std::mem::take(&mut heard) {
                        tracing::debug!("a client has given no sign of life");
                        return None;
                    }
                    self.socket.send(Message::Ping(axum::body::Bytes::new())).await.ok()?;
                }
            }
        }
    }

    /// Takes a message; `None` where its answer could not be sent.
    async fn take(
        &mut self,
        text: &[u8],
        core: &Core,
        caller: &Caller,
    ) -> Option<Result<(), Close>> {
        if core.go_on(caller).is_err() {
            return Some(Err(Close::CredentialEnded));
        }
        let refusal = match self.conversation.take(text, caller).await {
            Ok(()) => return Some(Ok(())),
            Err(Refusal::Ended) => return Some(Err(Close::SessionEnded)),
            Err(refusal) => refusal,
        };
        if let Some(told) = Outgoing::refusal(&refusal) {
            self.send(told).await.ok()?;
        }
        Some(Ok(()))
    }

    async fn send(&mut self, outgoing: Outgoing) -> Result<(), axum::Error> {
        self.answer.tighten(&outgoing.by);
        self.socket.send(Message::Text(outgoing.text.into())).await
    }

    async fn close(mut self, why: Close) {
        let closing = async {
            if self
                .socket
                .send(Message::Close(Some(why.frame())))
                .await
                .is_ok()
            {
                // until the other side has closed as well
                while let Some(Ok(_)) = self.socket.recv().await {}
            }
        };
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::debug!(?why, "a client did not close its connection");
        }
    }
}

impl Close {
    fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::GoingAway => (close_code::AWAY, "the edge stops; connect again"),
            Self::NotText => (close_code::UNSUPPORTED, "expected text messages"),
            Self::Malformed => (close_code::INVALID, "expected UTF-8 in WebSocket frames"),
            Self::TooLarge => (close_code::SIZE, "the message is too large"),
            Self::CredentialEnded => (
                close_code::POLICY,
                "the credential counts no more; connect again with a good one",
            ),
            Self::SessionEnded => (close_code::ERROR, "the session has ended; connect again"),
        };
        CloseFrame {
            code,
            reason: Utf8Bytes::from_static(reason),
        }
    }
}

/// What is wrong with what came, where there is somebody left to tell.
fn broken(error: axum::Error) -> Option<Close> {
    use tokio_tungstenite::tungstenite::Error;
    let error = error.into_inner();
    tracing::debug!(%error, "a WebSocket connection broke");
    match error.downcast_ref::<Error>()? {
        Error::Capacity(_) => Some(Close::TooLarge),
        Error::Protocol(_) | Error::Utf8(_) => Some(Close::Malformed),
        _ => None,
    }
}

/// For requests that are no handshake (RFC 9110, section 15.5.22).
fn upgrade_required() -> Response {
    let detail = "this path is for WebSocket: expected `Upgrade: websocket` with its headers";
    let problem = Problem::new(Reason::InvalidArgument, detail);
    let mut response = problem::respond_with(StatusCode::UPGRADE_REQUIRED, &problem);
    response
        .headers_mut()
        .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response
}
