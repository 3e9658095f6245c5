//! An MCP session that lives as long as one connection: its messages go through
//! two queues, whatever carries them. HTTP+SSE and WebSocket are such.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::reason::{Problem, Reason};
use rmcp::{
    RoleServer, ServerHandler,
    model::{
        ClientJsonRpcMessage, ClientNotification, GetExtensions, JsonRpcMessage, RequestId,
        ServerJsonRpcMessage,
    },
    service::serve_server_with_ct,
    transport::Transport,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    bound::{Bound, Place},
    json::{self, Shape},
};
use crate::{
    core::{AnswerBy, Caller},
    mcp::ExactArguments,
};

/// Messages of the client that wait to be looked at.
const INBOX: usize = 16;
/// Messages for the client that wait to be sent. What is more waits where it is
/// made: answers hold their place among the requests under way, and changes are
/// told as one.
const OUTBOX: usize = 32;

/// JSON-RPC 2.0, section 5.1.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
/// A server's own.
const SERVER_ERROR: i32 = -32000;

/// The client's end. The session ends when it is dropped.
pub(super) struct Conversation {
    inbox: mpsc::Sender<Box<ClientJsonRpcMessage>>,
    asked: Arc<Asked>,
    requests: Arc<Bound>,
    _ends: DropGuard,
}

/// What is to be sent to the client; the session has ended when there is no
/// more.
pub(super) type Outbox = mpsc::Receiver<Outgoing>;

/// A message for the client.
pub(super) struct Outgoing {
    /// JSON, in one line.
    pub(super) text: String,
    /// Until when it may be sent.
    pub(super) by: AnswerBy,
    /// Of the request that it answers.
    _place: Option<Place>,
}

/// A message that the session does not get.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is no message of the protocol.
    Message {
        code: i32,
        id: Value,
        detail: String,
    },
    /// It cannot be taken now.
    Problem { id: Value, problem: Box<Problem> },
    /// The session has ended.
    Ended,
}

/// Requests under way, by their ids.
#[derive(Default)]
struct Asked(Mutex<HashMap<RequestId, Request>>);

struct Request {
    by: AnswerBy,
    place: Place,
}

impl Conversation {
    /// Begins a session with this behind it.
    pub(super) fn begin<H: ServerHandler>(
        handler: H,
        requests: Arc<Bound>,
        stop: &CancellationToken,
    ) -> (Self, Outbox) {
        let (inbox, received) = mpsc::channel(INBOX);
        let (outbox, to_send) = mpsc::channel(OUTBOX);
        let asked = Arc::<Asked>::default();
        let server = Server {
            inbox: received,
            outbox,
            asked: asked.clone(),
            has_begun: false,
        };
        let ends = stop.child_token();
        let conversation = Self {
            inbox,
            asked,
            requests,
            _ends: ends.clone().drop_guard(),
        };
        tokio::spawn(async move {
            // large, and over as soon as the session has begun: not to be kept for its life
            let beginning = Box::pin(serve_server_with_ct(handler, server, ends));
            match beginning.await {
                Ok(running) => _ = running.waiting().await,
                Err(error) => tracing::debug!(%error, "an MCP session ended before it began"),
            }
        });
        (conversation, to_send)
    }

    /// Hands a message on, as this caller's.
    pub(super) async fn take(&self, text: &[u8], caller: &Caller) -> Result<(), Refusal> {
        let mut message = read(text)?;
        match &mut message {
            JsonRpcMessage::Request(request) => {
                let by = AnswerBy::default();
                let extensions = request.request.extensions_mut();
                extensions.insert(caller.with_answer(by.clone()));
                if let Some(arguments) = ExactArguments::of_message(text) {
                    extensions.insert(arguments);
                }
                self.ask(&request.id, by, caller)?;
            }
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) =
                    &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    // no answer follows
                    self.asked.lock().remove(id);
                }
                let extensions = notification.notification.extensions_mut();
                extensions.insert(caller.clone());
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
        let handed_on = self.inbox.send(Box::new(message)).await;
        handed_on.map_err(|_| Refusal::Ended)
    }

    fn ask(&self, id: &RequestId, by: AnswerBy, caller: &Caller) -> Result<(), Refusal> {
        let mut asked = self.asked.lock();
        if asked.contains_key(id) {
            return Err(Refusal::Message {
                code: INVALID_REQUEST,
                id: json!(id),
                detail: format!("a request with the id `{id}` is under way"),
            });
        }
        let place = self.requests.enter_to_stay(caller.api_key_id());
        let place = place.map_err(|problem| Refusal::Problem {
            id: json!(id),
            problem: Box::new(problem),
        })?;
        asked.insert(id.clone(), Request { by, place });
        Ok(())
    }
}

impl Outgoing {
    /// What a client is told of a message that was not taken.
    pub(super) fn refusal(refusal: &Refusal) -> Option<Self> {
        let (code, id, detail, data) = match refusal {
            Refusal::Message { code, id, detail } => {
                let data = json!({ "reason": Reason::InvalidArgument.as_str(), "detail": detail });
                (*code, id, detail, data)
            }
            Refusal::Problem { id, problem } => {
                let mut data =
                    json!({ "reason": problem.reason.as_str(), "detail": problem.detail });
                if let Some(seconds) = problem.retry_after_seconds {
                    data["retry_after_seconds"] = json!(seconds);
                }
                (SERVER_ERROR, id, &problem.detail, data)
            }
            Refusal::Ended => return None,
        };
        let error = json!({ "code": code, "message": detail, "data": data });
        Some(Self {
            text: json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string(),
            by: AnswerBy::default(),
            _place: None,
        })
    }
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message, or what is wrong with it.
fn read(text: &[u8]) -> Result<ClientJsonRpcMessage, Refusal> {
    let refused = |code, id, detail| Refusal::Message { code, id, detail };
    match json::check(text) {
        Ok(Shape::Object) => {}
        Ok(_) => {
            let detail = "expected one JSON-RPC message, a JSON object".to_owned();
            return Err(refused(INVALID_REQUEST, Value::Null, detail));
        }
        Err(error) => {
            let detail = format!("the message is not JSON: {error}");
            return Err(refused(PARSE_ERROR, Value::Null, detail));
        }
    }
    serde_json::from_slice(text).map_err(|_| {
        let detail = "the message is not a JSON-RPC message of MCP".to_owned();
        refused(INVALID_REQUEST, id_of(text), detail)
    })
}

/// The id of what is no message otherwise, so that its sender can tell which it
/// was.
fn id_of(text: &[u8]) -> Value {
    #[derive(Deserialize)]
    struct Identified {
        id: Value,
    }
    match serde_json::from_slice::<Identified>(text) {
        Ok(Identified { id }) if id.is_string() || id.is_number() => id,
        _ => Value::Null,
    }
}

/// The server's end, as `rmcp` wants it.
struct Server {
    inbox: mpsc::Receiver<Box<ClientJsonRpcMessage>>,
    outbox: mpsc::Sender<Outgoing>,
    asked: Arc<Asked>,
    has_begun: bool,
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the message is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the connection has ended")]
    Ended,
}

impl Transport<RoleServer> for Server {
    type Error = SendError;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        let answers = match &message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        let request = answers.map(|id| self.asked.lock().remove(id));
        let outbox = self.outbox.clone();
        async move {
            let (by, place) = match request {
                None => (AnswerBy::default(), None),
                Some(Some(Request { by, place })) => (by, Some(place)),
                // cancelled meanwhile
                Some(None) => return Ok(()),
            };
            let outgoing = Outgoing {
                text: serde_json::to_string(&message)?,
                by,
                _place: place,
            };
            outbox.send(outgoing).await.map_err(|_| SendError::Ended)
        }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = *self.inbox.recv().await?;
            self.has_begun |= matches!(message, JsonRpcMessage::Request(_));
            // nothing else means anything before the first request, and `rmcp` would end
            if self.has_begun {
                return Some(message);
            }
        }
    }

    async fn close(&mut self) -> Result<(), SendError> {
        self.inbox.close();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> (i32, Value) {
        match read(text.as_bytes()).unwrap_err() {
            Refusal::Message { code, id, .. } => (code, id),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_id_where_it_has_one() {
        assert_eq!(refused("{\"a\":}"), (-32700, Value::Null));
        assert_eq!(refused("[]"), (-32600, Value::Null));
        assert_eq!(refused("{\"id\":7}"), (-32600, json!(7)));
        assert_eq!(
            refused("{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":5}"),
            (-32600, json!("a"))
        );
        assert_eq!(refused("{\"id\":1,\"id\":2}").0, -32700);
        assert!(read(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).is_ok());
    }

    #[test]
    fn a_refusal_is_told_as_json_rpc() {
        let problem = Box::new(Problem::new(Reason::ResourceExhausted, "too many"));
        let id = json!(3);
        let told = Outgoing::refusal(&Refusal::Problem { id, problem }).unwrap();
        let told: Value = serde_json::from_str(&told.text).unwrap();
        assert_eq!(told["id"], 3);
        assert_eq!(told["error"]["code"], -32000);
        assert_eq!(told["error"]["data"]["reason"], "RESOURCE_EXHAUSTED");
        assert!(Outgoing::refusal(&Refusal::Ended).is_none());
    }
}
