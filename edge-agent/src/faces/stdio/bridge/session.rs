//! The MCP session of the bridge, in revisions that have sessions: begun by
//! the client, and begun again when the edge was restarted.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::task::AbortHandle;

use super::{Bridge, Events, Headers, HttpError, message, session_id};

/// Between tries to open the stream of the server's messages again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What the bridge remembers of the client's session.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
    /// Held while another session is begun.
    beginning: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    current: Option<Session>,
    /// Of the revision without sessions, as the client's last request said.
    version: Option<String>,
    /// What began the session.
    initialize: Option<Value>,
    subscribed: BTreeSet<String>,
    /// The stream of the server's own messages.
    stream: Option<AbortHandle>,
}

/// One session at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    id: String,
    version: String,
}

impl Sessions {
    /// The session now; `None` in revisions without.
    pub(super) fn current(&self) -> Option<Session> {
        self.state().current.clone()
    }

    /// What the request for a message carries.
    pub(super) fn headers(&self, message: &Value) -> Headers {
        let mut state = self.state();
        let own_version = message::version(message);
        if let Some(version) = own_version {
            state.version = Some(version.to_owned());
        }
        let method = message::method(message);
        match (&state.current, own_version) {
            _ if method == "initialize" => Headers::default(),
            (Some(session), None) => headers_of(session),
            (_, version) => Headers {
                version: version.or(state.version.as_deref()).map(str::to_owned),
                method: Some(method.to_owned()).filter(|method| !method.is_empty()),
                name: message::name(message).map(str::to_owned),
                ..Headers::default()
            },
        }
    }

    /// Takes over the session that an `initialize` has begun.
    pub(super) fn adopt(&self, session: Option<&str>, message: &Value, answer: &Value) {
        let version = answer["result"]["protocolVersion"].as_str();
        if let (Some(id), "initialize", Some(version)) =
            (session, message::method(message), version)
        {
            let mut state = self.state();
            state.current = Some(Session {
                id: id.to_owned(),
                version: version.to_owned(),
            });
            state.initialize = Some(message.clone());
        }
    }

    /// Remembers an answered request, where it has to be made again in another
    /// session.
    pub(super) fn remember(&self, message: &Value) {
        let uri = message::name(message).unwrap_or_default();
        match message::method(message) {
            "resources/subscribe" => {
                self.state().subscribed.insert(uri.to_owned());
            }
            "resources/unsubscribe" => {
                self.state().subscribed.remove(uri);
            }
            _ => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bridge {
    /// Sends a message; where the edge has forgotten the session, in another.
    pub(super) async fn post_again_if_forgotten(
        self: &Arc<Self>,
        message: &Value,
        line: &str,
    ) -> Result<Response<Incoming>, HttpError> {
        let session = self.sessions.current();
        let response = self.post(message, line.to_owned()).await?;
        match session {
            Some(forgotten) if response.status() == StatusCode::NOT_FOUND => {
                self.begin_again(&forgotten).await?;
                self.post(message, line.to_owned()).await
            }
            _ => Ok(response),
        }
    }

    /// Opens the stream of the server's own messages, and again when it ends.
    pub(super) fn open_stream(self: &Arc<Self>) {
        let task = tokio::spawn(self.clone().keep_stream_open());
        if let Some(earlier) = self.sessions.state().stream.replace(task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Ends the stream of the server's own messages.
    pub(super) fn end_stream(&self) {
        if let Some(stream) = self.sessions.state().stream.take() {
            stream.abort();
        }
    }

    /// Tells the edge that the session is over, and logs out.
    pub(in super::super) async fn close(&self) {
        let session = self.sessions.state().current.take();
        if let Some(session) = session {
            // an edge that is gone has no session either
            let _ = self
                .http
                .send(Method::DELETE, headers_of(&session), String::new())
                .await;
        }
        self.http.log_out().await;
    }

    async fn keep_stream_open(self: Arc<Self>) {
        let mut last_event = None;
        while let Some(session) = self.sessions.current() {
            match self.follow_stream(&session, &mut last_event).await {
                Ok(StatusCode::NOT_FOUND) => {
                    last_event = None;
                    if let Err(error) = self.begin_again(&session).await {
                        tracing::debug!(%error, "the session cannot be begun again yet");
                    }
                }
                Ok(status) if status.is_success() => {}
                Ok(status) => {
                    tracing::warn!(%status, "the edge refused the stream of server messages");
                }
                Err(error) => tracing::debug!(%error, "the stream of server messages broke"),
            }
            tokio::time::sleep(REOPEN_AFTER).await;
        }
    }

    async fn follow_stream(
        &self,
        session: &Session,
        last_event: &mut Option<String>,
    ) -> Result<StatusCode, HttpError> {
        let headers = Headers {
            last_event: last_event.clone(),
            ..headers_of(session)
        };
        let response = self.http.send(Method::GET, headers, String::new()).await?;
        let status = response.status();
        if status.is_success() {
            let mut events = Events::of(response);
            while let Some(event) = events.next().await? {
                self.write_event(&event.data).await;
                if event.id.is_some() {
                    *last_event = event.id;
                }
            }
        }
        Ok(status)
    }

    /// The edge was restarted: another session like the one that it forgot,
    /// with the same subscriptions. What changed in between is not known, so
    /// the client is told to read again.
    async fn begin_again(&self, forgotten: &Session) -> Result<(), HttpError> {
        let _one_at_a_time = self.sessions.beginning.lock().await;
        if self.sessions.current().as_ref() != Some(forgotten) {
            return Ok(());
        }
        let initialize = self.sessions.state().initialize.clone().unwrap_or_default();
        let response = self.post(&initialize, initialize.to_string()).await?;
        let session = session_id(&response);
        let mut events = Events::of(response);
        while let Some(event) = events.next().await? {
            self.sessions
                .adopt(session.as_deref(), &initialize, &event.message());
        }
        let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        self.post_quietly(&initialized, initialized.to_string())
            .await;
        let subscribed = self.sessions.state().subscribed.clone();
        for uri in subscribed {
            let params = json!({ "uri": uri });
            let subscribe = json!({
                "jsonrpc": "2.0",
                "id": format!("bridge:{uri}"),
                "method": "resources/subscribe",
                "params": params,
            });
            self.post_quietly(&subscribe, subscribe.to_string()).await;
            let updated = json!({
                "jsonrpc": "2.0",
                "method": "notifications/resources/updated",
                "params": params,
            });
            self.write(updated.to_string()).await;
        }
        Ok(())
    }
}

fn headers_of(session: &Session) -> Headers {
    Headers {
        session: Some(session.id.clone()),
        version: Some(session.version.clone()),
        ..Headers::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_adopted_from_the_answer_to_initialize() {
        let sessions = Sessions::default();
        let initialize = json!({"id": 0, "method": "initialize"});
        assert!(sessions.headers(&initialize).session.is_none());
        let answer = json!({"id": 0, "result": {"protocolVersion": "2025-11-25"}});
        sessions.adopt(Some("s"), &initialize, &answer);
        let headers = sessions.headers(&json!({"id": 1, "method": "tools/list"}));
        assert_eq!(
            (headers.session.as_deref(), headers.version.as_deref()),
            (Some("s"), Some("2025-11-25"))
        );
        assert!(headers.method.is_none());
        assert!(sessions.headers(&initialize).session.is_none());
    }

    #[test]
    fn without_a_session_the_headers_come_from_the_message() {
        let sessions = Sessions::default();
        let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        let call = json!({"id": 1, "method": "tools/call", "params": {"name": "t", "_meta": meta}});
        let headers = sessions.headers(&call);
        assert_eq!(headers.version.as_deref(), Some("2026-07-28"));
        assert_eq!(
            (headers.method.as_deref(), headers.name.as_deref()),
            (Some("tools/call"), Some("t"))
        );
        let notification = sessions.headers(&json!({"method": "notifications/progress"}));
        assert_eq!(notification.version.as_deref(), Some("2026-07-28"));
    }

    #[test]
    fn subscriptions_are_remembered_until_they_are_given_up() {
        let sessions = Sessions::default();
        let subscribe =
            |method: &str| json!({"method": method, "params": {"uri": "grants://active"}});
        sessions.remember(&subscribe("resources/subscribe"));
        assert_eq!(sessions.state().subscribed.len(), 1);
        sessions.remember(&subscribe("resources/unsubscribe"));
        assert!(sessions.state().subscribed.is_empty());
    }
}
