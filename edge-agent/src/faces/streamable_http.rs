//! `/mcp`: Streamable HTTP of both kinds, with sessions (revisions up to
//! 2025-11-25) and without (2026-07-28), on one path.

use std::{borrow::Cow, sync::Arc, time::Duration};

use authguardian_proto::reason::{Problem, Reason};
use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::Response,
};
use futures::{StreamExt, TryStreamExt};
use http_body_util::BodyExt;
use rmcp::{
    ServerHandler,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    MakeHandler,
    bound::Bound,
    json::{self, Shape},
    problem,
    sessions::Sessions,
};
use crate::{
    core::{Caller, Core},
    mcp::{ExactArguments, begin_to_listen},
};

const SESSION_ID: &str = "mcp-session-id";

/// The face and its sessions.
pub(super) struct Face<H> {
    core: Arc<Core>,
    service: StreamableHttpService<H, LocalSessionManager>,
    sessions: Arc<Sessions>,
}

impl<H: ServerHandler> Face<H> {
    /// Starts the face; its streams and sessions end with `stop`.
    pub(super) fn start(
        core: Arc<Core>,
        make: impl MakeHandler<H>,
        bound: Arc<Bound>,
        idle: Duration,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let mut manager = LocalSessionManager::default();
        // rmcp would end a session after a while without messages, even with an
        // open stream; ours know about streams
        manager.session_config.keep_alive = None;
        let manager = Arc::new(manager);
        let sessions = Sessions::new(manager.clone(), bound, idle);
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(sessions.clone().sweep()),
        );
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts() // the guard has checked, for every route
            .with_json_response(true)
            .with_max_request_body_bytes(usize::MAX) // the guard has bounded it
            .with_cancellation_token(stop);
        let for_sessions = core.clone();
        let service =
            StreamableHttpService::new(move || Ok(make(for_sessions.clone())), manager, config);
        Arc::new(Self {
            core,
            service,
            sessions,
        })
    }

    async fn post(&self, mut parts: Parts, body: Bytes, caller: &Caller) -> Response {
        if let Err(problem) = check_message(&body) {
            return json_rpc_error(&problem);
        }
        if let Some(arguments) = ExactArguments::of_message(&body) {
            parts.extensions.insert(arguments);
        }
        let within_session = parts.headers.contains_key(SESSION_ID);
        let begins = match method(&body).as_deref() {
            Some("initialize") => Begins::Session,
            Some("subscriptions/listen") => Begins::Stream,
            _ => Begins::Nothing,
        };
        if within_session || begins == Begins::Nothing {
            return self.handle(parts, Body::from(body)).await;
        }
        let place = match self.sessions.place(caller.api_key_id()).await {
            Ok(place) => place,
            Err(problem) => return problem::respond(&problem),
        };
        if begins == Begins::Stream {
            match begin_to_listen(&self.core, caller, &body).await {
                Ok(Some(listened)) => _ = parts.extensions.insert(listened),
                Ok(None) => {}
                Err(refusal) => return answer(refusal.to_string()),
            }
        }
        let response = self.handle(parts, Body::from(body)).await;
        if begins == Begins::Stream {
            return lasting(response, place);
        }
        if let Some(id) = session_id(response.headers()) {
            self.sessions.add(id, caller.api_key_id(), place);
        }
        response
    }

    /// A stream for the server's messages; it ends with the credential that it
    /// was opened with.
    async fn get(&self, parts: Parts, caller: Caller) -> Response {
        let open = session_id(&parts.headers).and_then(|id| self.sessions.open_stream(id));
        let response = self.handle(parts, Body::empty()).await;
        if !response.status().is_success() {
            return response;
        }
        let core = self.core.clone();
        let ended = Box::pin(async move { core.credential_ended(&caller).await });
        let response = response.map(|body| {
            let stream = body.into_data_stream().take_until(ended);
            Body::from_stream(stream)
        });
        lasting(response, open)
    }

    async fn delete(&self, parts: Parts) -> Response {
        let id = session_id(&parts.headers).map(str::to_owned);
        let response = self.handle(parts, Body::empty()).await;
        if let Some(id) = id.filter(|_| response.status().is_success()) {
            self.sessions.forget(&id);
        }
        response
    }

    async fn handle(&self, parts: Parts, body: Body) -> Response {
        let response = self.service.handle(Request::from_parts(parts, body)).await;
        tidy(response.map(Body::new)).await
    }
}

/// Any method on `/mcp`. A session belongs to the key that began it.
pub(super) async fn serve<H: ServerHandler>(
    State(face): State<Arc<Face<H>>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Some(caller) = parts.extensions.get::<Caller>().cloned() else {
        return problem::respond(&Problem::new(
            Reason::Unauthenticated,
            "the request has no caller",
        ));
    };
    if let Some(id) = session_id(&parts.headers)
        && let Err(problem) = face.sessions.enter(id, caller.api_key_id())
    {
        return problem::respond(&problem);
    }
    match parts.method {
        Method::GET => face.get(parts, caller).await,
        Method::DELETE => face.delete(parts).await,
        _ => match body.collect().await {
            Ok(body) => face.post(parts, body.to_bytes(), &caller).await,
            Err(_) => problem::respond(&Problem::new(
                Reason::InvalidArgument,
                "the body did not arrive whole",
            )),
        },
    }
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_ID)?.to_str().ok()
}

/// What is not even a JSON object, with the JSON-RPC error code for it.
fn check_message(body: &[u8]) -> Result<(), (i32, String)> {
    match json::check(body) {
        Err(error) => Err((-32700, format!("the body is not JSON: {error}"))),
        Ok(Shape::Object) => Ok(()),
        Ok(_) => Err((
            -32600,
            "expected one JSON-RPC message, a JSON object".to_owned(),
        )),
    }
}

/// What a request begins that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// In revisions that have sessions.
    Session,
    /// In the one that has none.
    Stream,
    Nothing,
}

/// A response that keeps something for as long as its body lives.
fn lasting<T: Send + Sync + 'static>(response: Response, kept: T) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect_ok(move |_| {
            let _ = &kept;
        }))
    })
}

/// A JSON-RPC answer that `rmcp` has not given.
fn answer(text: String) -> Response {
    let mut response = problem::json_rpc(text);
    *response.status_mut() = StatusCode::OK;
    response
}

fn method(body: &[u8]) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        method: Cow<'a, str>,
    }
    let message = serde_json::from_slice::<Message<'_>>(body).ok()?;
    Some(message.method)
}

fn json_rpc_error((code, message): &(i32, String)) -> Response {
    let data = json!({ "reason": Reason::InvalidArgument.as_str(), "detail": message });
    let error = json!({ "code": code, "message": message, "data": data });
    let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
    problem::json_rpc(body.to_string())
}

/// `rmcp` tells some errors as plain text; here all are problems.
async fn tidy(response: Response) -> Response {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = match response.into_body().collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => String::new(),
    };
    if text.starts_with("fail to deserialize") {
        return json_rpc_error(&(
            -32600,
            "the body is not a JSON-RPC message of MCP".to_owned(),
        ));
    }
    if status.is_server_error() {
        tracing::error!(%status, text, "the MCP transport failed");
        return problem::respond(&Problem::new(
            Reason::Internal,
            "the edge failed; its log has the cause",
        ));
    }
    problem::respond_with(status, &Problem::new(Reason::InvalidArgument, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_a_json_rpc_error() {
        assert_eq!(check_message(b"{\"a\":}").unwrap_err().0, -32700);
        assert_eq!(check_message(b"").unwrap_err().0, -32700);
        assert_eq!(check_message(b"[]").unwrap_err().0, -32600);
        assert!(check_message(b" {\"jsonrpc\":\"2.0\"}").is_ok());
    }

    #[test]
    fn a_method_is_read_however_it_is_written() {
        let plain = method(b"{\"id\":1,\"method\":\"initialize\"}");
        assert_eq!(plain.as_deref(), Some("initialize"));
        let escaped = method(b"{\"method\":\"initi\\u0061lize\"}");
        assert_eq!(escaped.as_deref(), Some("initialize"));
        assert_eq!(method(b"{}"), None);
    }

    #[tokio::test]
    async fn plain_text_errors_become_problems_and_keep_their_status() {
        let mut plain = Response::new(Body::from("Not Found: Session not found"));
        *plain.status_mut() = StatusCode::NOT_FOUND;
        let tidied = tidy(plain).await;
        assert_eq!(tidied.status(), 404);
        assert_eq!(
            tidied.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
