//! The bridge proper: which line goes where, and what becomes of the answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    http::{Headers, Http, HttpError, is_stream, session_id},
    message::{self, Kind},
    sse::Events,
};

mod session;

use session::Sessions;

/// JSON-RPC: a server's own error.
const SERVER_ERROR: i32 = -32000;

/// One client's bridge.
pub(super) struct Bridge {
    http: Http,
    lines: mpsc::Sender<String>,
    sessions: Sessions,
    /// Requests under way that the client may cancel, by their id as JSON.
    cancellable: Mutex<HashMap<String, Running>>,
}

struct Running {
    task: AbortHandle,
    /// A subscription, which never ends by itself.
    endless: bool,
}

impl Bridge {
    pub(super) fn new(http: Http, lines: mpsc::Sender<String>) -> Self {
        Self {
            http,
            lines,
            sessions: Sessions::default(),
            cancellable: Mutex::default(),
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
                self.request(message, line).await;
            }
            Kind::Request => self.begin_request(message, line, tasks),
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

    /// Renews the session at the edge in time, for ever.
    pub(super) async fn stay_logged_in(&self) {
        self.http.stay_logged_in().await;
    }

    /// Ends what would never end by itself.
    pub(super) fn end_streams(&self) {
        self.end_stream();
        for (_, running) in self.cancellable().extract_if(|_, running| running.endless) {
            running.task.abort();
        }
    }

    /// Without sessions, a request can be cancelled, by closing its response.
    fn begin_request(self: &Arc<Self>, message: Value, line: String, tasks: &mut JoinSet<()>) {
        let id = message["id"].to_string();
        let stateless = message::version(&message).is_some();
        let endless = message::method(&message) == "subscriptions/listen";
        let mut cancellable = self.cancellable();
        let bridge = self.clone();
        let key = id.clone();
        let task = tasks.spawn(async move {
            bridge.request(message, line).await;
            bridge.cancellable().remove(&key);
        });
        if stateless {
            cancellable.insert(id, Running { task, endless });
        }
    }

    async fn request(self: &Arc<Self>, message: Value, line: String) {
        let answered = match self.post_again_if_forgotten(&message, &line).await {
            Ok(response) => self.answer(&message, response).await,
            Err(error) => Err(error),
        };
        let id = &message["id"];
        match answered {
            Ok(true) => self.sessions.remember(&message),
            Ok(false) => {
                let text = "the edge ended the request without an answer";
                self.write(message::error(id, SERVER_ERROR, text, None))
                    .await;
            }
            Err(error) => {
                let data = match &error {
                    HttpError::Refused(problem) => {
                        Some(json!({ "reason": problem.reason.as_str(), "detail": problem.detail }))
                    }
                    _ => None,
                };
                self.write(message::error(id, SERVER_ERROR, &error.to_string(), data))
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
        let session = session_id(&response);
        if status.is_success() && is_stream(&response) {
            let mut events = Events::of(response);
            let mut answered = false;
            while let Some(event) = events.next().await? {
                let parsed = event.message();
                self.sessions.adopt(session.as_deref(), message, &parsed);
                answered |= message::answers(&parsed, id);
                self.write_event(&event.data).await;
            }
            return Ok(answered);
        }
        let body = response.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let parsed: Value = serde_json::from_str(&text).unwrap_or_default();
        if message::answers(&parsed, id) {
            self.sessions.adopt(session.as_deref(), message, &parsed);
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
        if method == "notifications/cancelled" && self.sessions.current().is_none() {
            let id = message["params"]["requestId"].to_string();
            let running = self.cancellable().remove(&id);
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
        match self.post(message, line).await {
            Ok(response) if response.status().is_success() => {}
            Ok(response) => {
                let (status, method) = (response.status(), message::method(message));
                tracing::warn!(%status, method, "the edge refused a message");
            }
            Err(error) => tracing::warn!(%error, "a message could not be delivered"),
        }
    }

    async fn post(&self, message: &Value, line: String) -> Result<Response<Incoming>, HttpError> {
        let headers = self.sessions.headers(message);
        self.http.send(Method::POST, headers, line).await
    }

    async fn write_event(&self, data: &str) {
        if !data.is_empty() {
            self.write(message::one_line(data)).await;
        }
    }

    async fn write(&self, line: String) {
        // a client that has closed its end wants no more lines
        let _ = self.lines.send(line).await;
    }

    fn cancellable(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.cancellable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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
        let line = refusal(&json!(7), StatusCode::UNAUTHORIZED, &body);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["id"], 7);
        assert_eq!(line["error"]["message"], "the API key was revoked");
        assert_eq!(line["error"]["data"]["reason"], "API_KEY_REVOKED");
    }
}
