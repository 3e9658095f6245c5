//! `/agents/{agent}/mcp`: the MCP server of another agent, wherever it is
//! registered, for clients that hold a grant to call it. What passes is chosen by
//! name: no credential of either side travels further.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::AgentId,
    reason::{Problem, Reason},
};
use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderName, Method, header},
    response::Response,
    routing::any,
};
use serde_json::{Value, json};

use super::{
    json,
    peer::whole,
    problem,
    serve::{End, Line},
};
use crate::{
    config::Limits,
    core::{Answer, Caller, Core, ShownGrant},
    endpoints::Message,
    trust::PeerMachine,
};

/// Where the caller shows the grant: the credential's place is taken.
const GRANT: &str = "x-authguardian-grant";

/// `POST`, `GET` and `DELETE`, as in Streamable HTTP.
pub(super) async fn call(
    State(core): State<Arc<Core>>,
    Path(agent): Path<String>,
    Extension(caller): Extension<Caller>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = message_id(&body);
    let shown = headers.get(GRANT).and_then(|value| value.to_str().ok());
    let grant = shown.map(|text| ShownGrant::new(text.trim()));
    let outcome = match read(&agent, method, &headers, &body) {
        Ok((agent, message)) => core.call_agent(&caller, &agent, grant, message).await,
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(answer) => respond(answer),
        Err(problem) => refuse(&problem, id),
    }
}

/// What edges of other machines call this machine's agents by.
pub fn agents_router(core: &Arc<Core>, limits: &Limits) -> Router {
    let served = Served {
        core: core.clone(),
        max: usize::try_from(limits.max_body_bytes).unwrap_or(usize::MAX),
        within: limits.body_timeout(),
    };
    Router::new().route("/agents/{agent}/mcp", any(serve).with_state(served))
}

#[derive(Clone)]
struct Served {
    core: Arc<Core>,
    /// Bytes of a body.
    max: usize,
    /// For it to arrive.
    within: Duration,
}

/// The same for the edge of another machine, which shows a grant and nothing else.
async fn serve(
    State(served): State<Served>,
    Path(agent): Path<String>,
    Extension(PeerMachine(from)): Extension<PeerMachine>,
    Extension(line): Extension<Line>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let End::Address(address) = line.end else {
        let detail = "the peer of the connection is not known";
        return problem::respond(&Problem::new(Reason::Internal, detail));
    };
    let body = match whole(body, served.max, served.within).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let id = message_id(&body);
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let grant = shown.map(|text| ShownGrant::new(text.trim()));
    let outcome = match read(&agent, method, &headers, &body) {
        Ok((agent, message)) => {
            let core = &served.core;
            core.serve_call(from, address, &agent, grant, message).await
        }
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(answer) => respond(answer),
        Err(problem) => refuse(&problem, id),
    }
}

/// The agent of the path, and the message to it.
///
/// # Errors
/// `INVALID_ARGUMENT`.
fn read(
    agent: &str,
    method: Method,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(AgentId, Message), Problem> {
    let agent = agent
        .parse()
        .map_err(|_| Problem::invalid("agent_id", AgentId::EXPECTED))?;
    if !matches!(method, Method::POST | Method::GET | Method::DELETE) {
        let detail = "expected `POST`, `GET` or `DELETE`";
        return Err(Problem::new(Reason::InvalidArgument, detail));
    }
    if method == Method::POST {
        let shape = json::check(body).map_err(|error| {
            let detail = format!("the body is not JSON: {error}");
            Problem::new(Reason::InvalidArgument, detail)
        })?;
        if shape != json::Shape::Object {
            let detail = "expected one JSON-RPC message, a JSON object";
            return Err(Problem::new(Reason::InvalidArgument, detail));
        }
    }
    let message = Message {
        method,
        headers: passing(headers, is_for_the_server),
        body: body.to_vec(),
    };
    Ok((agent, message))
}

/// The answer of the agent's server, less what is not for the client.
fn respond(answer: Answer) -> Response {
    let mut response = Response::new(Body::from_stream(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = passing(&answer.headers, is_for_the_client);
    response
}

/// A refusal as MCP clients can read it: an error of the message, where it has
/// an id, with the status of its reason.
fn refuse(problem: &Problem, id: Option<Value>) -> Response {
    let response = problem::respond(problem);
    let Some(id) = id else {
        return response;
    };
    let data = json!({
        "reason": problem.reason.as_str(),
        "detail": problem.detail,
        "field": problem.field,
    });
    let error = json!({ "code": -32000, "message": problem.to_string(), "data": data });
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": error });
    let mut told = problem::json_rpc(body.to_string());
    *told.status_mut() = response.status();
    told
}

/// The id of a request, which wants an answer.
fn message_id(body: &[u8]) -> Option<Value> {
    let message: Value = serde_json::from_slice(body).ok()?;
    message.get("method")?;
    let id = message.get("id")?;
    (id.is_string() || id.is_number()).then(|| id.clone())
}

fn passing(headers: &HeaderMap, passes: fn(&HeaderName) -> bool) -> HeaderMap {
    let chosen = headers.iter().filter(|(name, _)| passes(name));
    chosen
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Headers of Streamable HTTP (revisions 2025-11-25 and 2026-07-28).
fn is_for_the_server(name: &HeaderName) -> bool {
    [header::ACCEPT, header::CONTENT_TYPE].contains(name)
        || name == "last-event-id"
        || name.as_str().starts_with("mcp-")
}

fn is_for_the_client(name: &HeaderName) -> bool {
    [
        header::CONTENT_TYPE,
        header::CACHE_CONTROL,
        header::RETRY_AFTER,
    ]
    .contains(name)
        || name.as_str().starts_with("mcp-")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;

    fn headers(names: &[&'static str]) -> HeaderMap {
        let pairs = names.iter().map(|name| {
            let value = HeaderValue::from_static("x");
            (HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    #[test]
    fn no_credential_and_no_cookie_passes_in_either_direction() {
        let sent = headers(&[
            "authorization",
            "cookie",
            "x-authguardian-grant",
            "proxy-authorization",
            "host",
            "origin",
            "forwarded",
            "x-forwarded-for",
            "x-authguardian-caller",
            "accept",
            "content-type",
            "mcp-session-id",
            "mcp-protocol-version",
            "last-event-id",
        ]);
        let body = Bytes::from_static(b"{}");
        let (_, message) = read("a", Method::POST, &sent, &body).unwrap();
        let mut kept: Vec<&str> = message.headers.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(
            kept,
            [
                "accept",
                "content-type",
                "last-event-id",
                "mcp-protocol-version",
                "mcp-session-id"
            ]
        );
        let answered = headers(&[
            "set-cookie",
            "location",
            "www-authenticate",
            "content-type",
            "mcp-session-id",
            "access-control-allow-origin",
            "server",
        ]);
        let kept = passing(&answered, is_for_the_client);
        assert_eq!(kept.len(), 2);
    }

    #[test]
    fn what_is_no_message_to_an_agent_is_refused() {
        let read = |agent: &str, method: Method, body: &'static str| {
            let body = Bytes::from_static(body.as_bytes());
            read(agent, method, &HeaderMap::new(), &body).map(drop)
        };
        assert!(read("team/a", Method::GET, "").is_ok());
        for (agent, method, body) in [
            ("a b", Method::GET, ""),
            ("a", Method::PUT, "{}"),
            ("a", Method::POST, ""),
            ("a", Method::POST, "[]"),
            ("a", Method::POST, "{\"a\":1,\"a\":2}"),
        ] {
            let problem = read(agent, method, body).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidArgument);
        }
    }

    #[tokio::test]
    async fn a_refused_request_is_told_by_its_id_and_a_stream_by_a_problem() {
        let problem = Problem::new(Reason::GrantRevoked, "the grant was revoked");
        let id = message_id(br#"{"id": 7, "method": "tools/call"}"#);
        let told = refuse(&problem, id);
        assert_eq!(told.status(), problem.reason.code().http());
        let body = told.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["id"], 7);
        assert_eq!(body["error"]["data"]["reason"], "GRANT_REVOKED");
        let told = refuse(&problem, message_id(br#"{"method": "notifications/x"}"#));
        assert_eq!(
            told.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }
}
