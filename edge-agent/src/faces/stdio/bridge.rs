//! The bridge proper: which line goes where, and what becomes of the answers.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::http::{Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    http::{Headers, Http, HttpError},
    message::{self, Kind},
    sse::Parser,
};

/// JSON-RPC: a server's own error.
const SERVER_ERROR: i32 = -32000;
/// Between tries to open the stream of the server's messages again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// One client's bridge.
pub(super) struct Bridge {
    http: Http,
    lines: mpsc::Sender<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the revisions with sessions.
    session: Option<Session>,
    /// Of the revision without, as the client's last request said.
    version: Option<String>,
    /// What began the session, to begin another when the edge was restarted.
    initialize: Option<Value>,
    subscribed: BTreeSet<String>,
    /// The stream of the server's own messages.
    stream: Option<AbortHandle>,
    /// Requests under way that the client may cancel, by their id as JSON.
    cancellable: HashMap<String, Running>,
}

struct Running {
    task: AbortHandle,
    /// A subscription, which never ends by itself.
    endless: bool,
}

#[derive(Clone)]
struct Session {
    id: String,
    version: String,
}

impl Bridge {
    pub(super) fn new(http: Http, lines: mpsc::Sender<String>) -> Self {
        Self {
            http,
            lines,
            state: Mutex::default(),
        }
    }

    /// Takes one message of the client. Requests run side by side, everything
    /// else keeps its order.
    pub(super) async fn take(
        self: &Arc<Self>,
        message: Value,
        line: String,
        tasks: &mut JoinSet<()>,
    ) {
        match message::kind(&message) {
            Kind::Request if message::method(&message) == "initialize" => {
                self.state().initialize = Some(message.clone());
                self.request(message, line).await;
            }
            Kind::Request => {
                let id = message["id"].to_string();
                let bridge = self.clone();
                let (key, stateless) = (id.clone(), message::version(&message).is_some());
                let endless = message::method(&message) == "subscriptions/listen";
                let task = tasks.spawn(async move {
                    bridge.request(message, line).await;
                    bridge.state().cancellable.remove(&key);
                });
                if stateless {
                    self.state()
                        .cancellable
                        .insert(id, Running { task, endless });
                }
            }
            Kind::Notification => self.notify(message, line).await,
            Kind::Answer => self.post_quietly(&message, line).await,
        }
    }

    /// A line that is no JSON.
    pub(super) async fn refuse_line(&self, error: &serde_json::Error) {
        let text = format!("the line is not JSON: {error}");
        self.write(message::error(&Value::Null, -32700, &text, None))
            .await;
    }

    /// Ends what would never end by itself.
    pub(super) fn end_streams(&self) {
        let mut state = self.state();
        if let Some(stream) = state.stream.take() {
            stream.abort();
        }
        for (_, running) in state.cancellable.extract_if(|_, running| running.endless) {
            running.task.abort();
        }
    }

    /// Tells the edge that the session is over.
    pub(super) async fn close(&self) {
        let session = self.state().session.take();
        if let Some(session) = session {
            // an edge that is gone has no session either
            let _ = self
                .http
                .send(Method::DELETE, headers_of(&session), String::new())
                .await;
        }
    }

    async fn request(self: &Arc<Self>, message: Value, line: String) {
        let id = message["id"].clone();
        let outcome = match self.post(&message, &line).await {
            Ok(response) if self.has_lost_session(&response) => match self.begin_again().await {
                Ok(()) => self.post(&message, &line).await,
                Err(error) => Err(error),
            },
            outcome => outcome,
        };
        let answered = match outcome {
            Ok(response) => self.answer(&message, response).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(true) => self.remember(&message),
            Ok(false) => {
                let text = "the edge ended the request without an answer";
                self.write(message::error(&id, SERVER_ERROR, text, None))
                    .await;
            }
            Err(error) => {
                self.write(message::error(&id, SERVER_ERROR, &error.to_string(), None))
                    .await;
            }
        }
    }

    /// Writes the answer and whatever comes before it; whether it came.
    async fn answer(
        &self,
        message: &Value,
        response: Response<Incoming>,
    ) -> Result<bool, HttpError> {
        let id = &message["id"];
        let status = response.status();
        if status.is_success() && is_stream(&response) {
            let session = session_id(&response);
            return self
                .copy(response, |event| {
                    self.adopt(session.as_deref(), message, event);
                    message::answers(event, id)
                })
                .await;
        }
        let session = session_id(&response);
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        if message::answers(&parsed, id) {
            self.adopt(session.as_deref(), message, &parsed);
            self.write(message::one_line(&text)).await;
            return Ok(true);
        }
        if status.is_success() {
            return Ok(false);
        }
        self.write(refusal(id, status, &parsed)).await;
        Ok(true)
    }

    async fn notify(self: &Arc<Self>, message: Value, line: String) {
        let method = message::method(&message);
        if method == "notifications/cancelled" && self.state().session.is_none() {
            // without sessions, a request is cancelled by closing its response
            let id = message["params"]["requestId"].to_string();
            let running = self.state().cancellable.remove(&id);
            if let Some(running) = running {
                running.task.abort();
            }
            return;
        }
        self.post_quietly(&message, line).await;
        if method == "notifications/initialized" {
            self.open_stream();
        }
    }

    async fn post_quietly(&self, message: &Value, line: String) {
        match self.post(message, &line).await {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => {
                tracing::warn!(status = %response.status(), method = message::method(message), "the edge refused a message");
            }
            Err(error) => tracing::warn!(%error, "a message could not be delivered"),
        }
    }

    async fn post(&self, message: &Value, line: &str) -> Result<Response<Incoming>, HttpError> {
        let headers = self.headers(message);
        self.http.send(Method::POST, headers, line.to_owned()).await
    }

    fn headers(&self, message: &Value) -> Headers {
        let mut state = self.state();
        if let Some(version) = message::version(message) {
            state.version = Some(version.to_owned());
        }
        if message::method(message) == "initialize" {
            return Headers::default();
        }
        match (&state.session, message::version(message)) {
            (Some(session), None) => headers_of(session),
            (_, version) => Headers {
                version: version.or(state.version.as_deref()).map(str::to_owned),
                method: Some(message::method(message))
                    .filter(|method| !method.is_empty())
                    .map(str::to_owned),
                name: message::name(message).map(str::to_owned),
                ..Headers::default()
            },
        }
    }

    /// Takes over the session that an `initialize` has begun.
    fn adopt(&self, session: Option<&str>, message: &Value, answer: &Value) {
        let version = answer["result"]["protocolVersion"].as_str();
        if let (Some(id), "initialize", Some(version)) =
            (session, message::method(message), version)
        {
            let session = Session {
                id: id.to_owned(),
                version: version.to_owned(),
            };
            self.state().session = Some(session);
        }
    }

    /// Remembers subscriptions, to make them again after a restart of the edge.
    fn remember(&self, message: &Value) {
        let uri = message::name(message).unwrap_or_default().to_owned();
        match message::method(message) {
            "resources/subscribe" => {
                self.state().subscribed.insert(uri);
            }
            "resources/unsubscribe" => {
                self.state().subscribed.remove(&uri);
            }
            _ => {}
        }
    }

    fn has_lost_session(&self, response: &Response<Incoming>) -> bool {
        let state = self.state();
        response.status() == StatusCode::NOT_FOUND
            && state.session.is_some()
            && state.initialize.is_some()
    }

    /// The edge was restarted: another session like the one that it forgot.
    async fn begin_again(self: &Arc<Self>) -> Result<(), HttpError> {
        let (initialize, subscribed) = {
            let mut state = self.state();
            state.session = None;
            (
                state.initialize.clone().unwrap_or_default(),
                state.subscribed.clone(),
            )
        };
        let response = self.post(&initialize, &initialize.to_string()).await?;
        let session = session_id(&response);
        let id = initialize["id"].clone();
        self.read(response, |event| {
            self.adopt(session.as_deref(), &initialize, event);
            message::answers(event, &id)
        })
        .await?;
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.post_quietly(&initialized, initialized.to_string())
            .await;
        for (number, uri) in subscribed.iter().enumerate() {
            let subscribe = json!({
                "jsonrpc": "2.0",
                "id": format!("bridge-{number}"),
                "method": "resources/subscribe",
                "params": { "uri": uri },
            });
            self.post_quietly(&subscribe, subscribe.to_string()).await;
        }
        self.open_stream();
        Ok(())
    }

    /// Opens the stream of the server's own messages, and again when it ends.
    fn open_stream(self: &Arc<Self>) {
        let bridge = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            let mut last_event = None;
            while let Some(bridge) = bridge.upgrade() {
                let Some(session) = bridge.state().session.clone() else {
                    return;
                };
                let headers = Headers {
                    last_event: last_event.clone(),
                    ..headers_of(&session)
                };
                match bridge.http.send(Method::GET, headers, String::new()).await {
                    Ok(response) if response.status().is_success() => {
                        if let Err(error) = bridge.copy_all(response, &mut last_event).await {
                            tracing::debug!(%error, "the stream of server messages broke");
                        }
                    }
                    // gone: the next request begins another session
                    Ok(response) if response.status() == StatusCode::NOT_FOUND => return,
                    Ok(response) => {
                        tracing::warn!(status = %response.status(), "the edge refused the stream of server messages");
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the stream of server messages cannot be opened");
                    }
                }
                drop(bridge);
                tokio::time::sleep(REOPEN_AFTER).await;
            }
        });
        if let Some(earlier) = self.state().stream.replace(task.abort_handle()) {
            earlier.abort();
        }
    }

    async fn copy_all(
        &self,
        response: Response<Incoming>,
        last_event: &mut Option<String>,
    ) -> Result<(), HttpError> {
        let mut body = response.into_body();
        let mut parser = Parser::default();
        while let Some(frame) = body.frame().await {
            for event in frame?
                .data_ref()
                .map(|bytes| parser.push(bytes))
                .unwrap_or_default()
            {
                if event.id.is_some() {
                    last_event.clone_from(&event.id);
                }
                if !event.data.is_empty() {
                    self.write(message::one_line(&event.data)).await;
                }
            }
        }
        Ok(())
    }

    /// Copies a stream to stdout; whether one of the messages was `wanted`.
    async fn copy(
        &self,
        response: Response<Incoming>,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<bool, HttpError> {
        let mut found = false;
        let mut body = response.into_body();
        let mut parser = Parser::default();
        while let Some(frame) = body.frame().await {
            for event in frame?
                .data_ref()
                .map(|bytes| parser.push(bytes))
                .unwrap_or_default()
            {
                if event.data.is_empty() {
                    continue;
                }
                found |= wanted(&serde_json::from_str(&event.data).unwrap_or_default());
                self.write(message::one_line(&event.data)).await;
            }
        }
        Ok(found)
    }

    /// Reads a stream to its end and writes nothing.
    async fn read(
        &self,
        response: Response<Incoming>,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Result<(), HttpError> {
        let mut body = response.into_body();
        let mut parser = Parser::default();
        while let Some(frame) = body.frame().await {
            for event in frame?
                .data_ref()
                .map(|bytes| parser.push(bytes))
                .unwrap_or_default()
            {
                if wanted(&serde_json::from_str(&event.data).unwrap_or_default()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn write(&self, line: String) {
        // a client that has closed its end wants no more lines
        let _ = self.lines.send(line).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn headers_of(session: &Session) -> Headers {
    Headers {
        session: Some(session.id.clone()),
        version: Some(session.version.clone()),
        ..Headers::default()
    }
}

fn session_id(response: &Response<Incoming>) -> Option<String> {
    response
        .headers()
        .get("mcp-session-id")?
        .to_str()
        .ok()
        .map(str::to_owned)
}

fn is_stream(response: &Response<Incoming>) -> bool {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// A problem, or a JSON-RPC error without an id, as the answer to a request.
fn refusal(id: &Value, status: StatusCode, body: &Value) -> String {
    if let Some(error) = body.get("error").filter(|error| error.is_object()) {
        return json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
    }
    let text = match body["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("the edge answered `{status}`"),
    };
    let data =
        json!({ "status": status.as_u16(), "reason": body["reason"], "detail": body["detail"] });
    message::error(id, SERVER_ERROR, &text, Some(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_becomes_the_answer_to_its_request() {
        let body = json!({"reason": "API_KEY_REVOKED", "detail": "the API key was revoked"});
        let line: Value =
            serde_json::from_str(&refusal(&json!(7), StatusCode::UNAUTHORIZED, &body)).unwrap();
        assert_eq!(line["id"], 7);
        assert_eq!(line["error"]["message"], "the API key was revoked");
        assert_eq!(line["error"]["data"]["reason"], "API_KEY_REVOKED");
    }
}
