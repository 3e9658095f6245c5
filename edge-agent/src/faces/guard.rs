//! What every request passes first: Host and Origin, credential, size. It
//! fails closed: what is not known to be allowed is refused.

use std::{borrow::Cow, sync::Arc, time::Duration};

use authguardian_proto::{
    credential::PresentedKey,
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use axum::{
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{problem, socket::PeerOf};
use crate::{
    config::Http,
    core::{Core, Tool},
};

mod origin;

use origin::AllowList;

/// Largest body of a request, bytes.
const MAX_BODY: usize = 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is refused is read nevertheless, so that the client
/// gets to read the answer.
const MAX_DISCARD: usize = 16 * 1024 * 1024;

/// One guard for all routes.
pub struct Guard {
    core: Arc<Core>,
    allowed: AllowList,
}

impl Guard {
    /// A guard that answers loopback names and those configured.
    pub fn new(core: Arc<Core>, http: &Http) -> Self {
        Self {
            core,
            allowed: AllowList::new(http),
        }
    }

    /// Finds out who calls; the credential does not travel further. On a
    /// refusal, also which key was named.
    async fn authenticate(&self, request: &mut Request) -> Result<(), (Problem, Option<ApiKeyId>)> {
        let unnamed = |problem| (problem, None);
        let PeerOf { peer, answer } = peer_of(request).map_err(unnamed)?;
        let credential = request.headers_mut().remove(header::AUTHORIZATION);
        let key = presented_key(credential.as_ref()).map_err(unnamed)?;
        let claimed = key.claims();
        let caller = self.core.authenticate(key, peer, answer).await;
        let caller = caller.map_err(|problem| (problem, claimed))?;
        request.extensions_mut().insert(caller);
        Ok(())
    }

    /// Refuses a request, and notes it.
    fn refuse(&self, request: &Request, problem: &Problem, claimed: Option<ApiKeyId>) -> Response {
        if let Ok(PeerOf { peer, .. }) = peer_of(request) {
            let action = action(request.method(), request.uri().path());
            self.core.note_refusal(&peer, action, claimed, problem);
        }
        problem::respond(problem)
    }
}

fn peer_of(request: &Request) -> Result<PeerOf, Problem> {
    let peer = request.extensions().get::<ConnectInfo<PeerOf>>().cloned();
    peer.map(|ConnectInfo(peer)| peer)
        .ok_or_else(|| Problem::new(Reason::Internal, "the peer of the connection is not known"))
}

/// What the audit log calls a request that was refused before any face had it.
fn action(method: &Method, path: &str) -> Cow<'static, str> {
    if let Some(tool) = path.strip_prefix("/mcp/tools/").and_then(Tool::parse) {
        return tool.action().into();
    }
    match (method.as_str(), path) {
        ("POST", "/auth/challenge") => "login.challenge".into(),
        ("POST", "/auth/session") => "login.session".into(),
        ("GET", "/auth/session") => "session.read".into(),
        ("POST", "/auth/session/renew") => "session.renew".into(),
        ("DELETE", "/auth/session") => "session.end".into(),
        (_, path) if path.starts_with("/mcp/resources/") => "resource.read".into(),
        _ => "call.refuse".into(),
    }
}

/// The outer layer.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = guard.allowed.check(request.uri(), request.headers()) {
        return guard.refuse(&request, &problem, None);
    }
    if is_open(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    if request.uri().path().starts_with("/.well-known/") {
        // MCP clients look here for OAuth, which this edge does not speak
        return problem::not_found(format!("there is nothing at `{}`", request.uri().path()));
    }
    if let Err((problem, claimed)) = guard.authenticate(&mut request).await {
        let refused = guard.refuse(&request, &problem, claimed);
        discard(request.into_body()).await;
        return refused;
    }
    if request.uri().path() == "/mcp" {
        let stream_only = request.method() == Method::GET;
        accept_leniently(request.headers_mut(), stream_only);
    }
    match with_whole_body(request).await {
        Ok(request) => next.run(request).await,
        Err(response) => response,
    }
}

/// What needs no credential: nothing in it depends on who asks.
fn is_open(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && matches!(path, "/livez" | "/readyz")
}

fn presented_key(credential: Option<&HeaderValue>) -> Result<PresentedKey, Problem> {
    let missing = || {
        let detail = "present an API key: `Authorization: Bearer agk_…`";
        Problem::new(Reason::Unauthenticated, detail)
    };
    let text = credential
        .and_then(|value| value.to_str().ok())
        .ok_or_else(missing)?;
    let (scheme, key) = text.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(PresentedKey::new(key.trim()))
}

/// `rmcp` wants both media types spelt out; clients that take anything, or do
/// not say, take both.
fn accept_leniently(headers: &mut HeaderMap, stream_only: bool) {
    let takes_all = match headers.get(header::ACCEPT) {
        None => true,
        Some(value) => value.to_str().is_ok_and(|text| text.contains("*/*")),
    };
    if takes_all {
        let both = if stream_only {
            "text/event-stream"
        } else {
            "application/json, text/event-stream"
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(both));
    }
}

/// Reads the body, so that no face has to think of its size again.
async fn with_whole_body(request: Request) -> Result<Request, Response> {
    let too_large = || {
        let detail = format!("the body has more than {MAX_BODY} bytes");
        problem::respond(&Problem::new(Reason::TooLarge, detail))
    };
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > MAX_BODY) {
        discard(body).await;
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(Request::from_parts(parts, Body::from(whole.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            let problem = Problem::new(Reason::InvalidArgument, "the body did not arrive whole");
            Err(problem::respond(&problem))
        }
        Err(_) => {
            let problem = Problem::new(Reason::InvalidArgument, "the body did not arrive in time");
            Err(problem::respond_with(StatusCode::REQUEST_TIMEOUT, &problem))
        }
    }
}

/// A client that still writes when the connection closes may lose the answer.
async fn discard(body: Body) {
    let reading = async {
        let mut body = Limited::new(body, MAX_DISCARD);
        while let Some(Ok(_)) = body.frame().await {}
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
}

/// The authority that a request names: of the URI in HTTP/2, else `Host`.
fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(http::uri::Authority::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";

    fn read(text: &str) -> Result<PresentedKey, Problem> {
        presented_key(Some(&HeaderValue::from_str(text).unwrap()))
    }

    #[test]
    fn only_a_bearer_api_key_is_a_credential() {
        for good in [format!("Bearer {KEY}"), format!("bearer  {KEY} ")] {
            let key = read(&good).unwrap().read().unwrap();
            assert_eq!(key.id().to_string(), "apk_0000000000000000000001");
        }
        for bad in ["", "Bearer", "Basic YTpi", KEY] {
            assert_eq!(
                read(bad).unwrap_err().reason,
                Reason::Unauthenticated,
                "{bad}"
            );
        }
        assert_eq!(
            presented_key(None).unwrap_err().reason,
            Reason::Unauthenticated
        );
    }

    #[test]
    fn a_refused_request_is_called_by_what_it_was_for() {
        for (method, path, called) in [
            (Method::POST, "/mcp/tools/revoke_token", "tool.revoke_token"),
            (Method::POST, "/mcp/tools/no_such_tool", "call.refuse"),
            (
                Method::GET,
                "/mcp/resources/grants://active",
                "resource.read",
            ),
            (Method::POST, "/auth/session", "login.session"),
            (Method::DELETE, "/auth/session", "session.end"),
            (Method::POST, "/mcp", "call.refuse"),
        ] {
            assert_eq!(action(&method, path), called);
        }
    }

    #[test]
    fn whoever_takes_anything_takes_both_media_types() {
        let rewritten = |accept: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            accept_leniently(&mut headers, false);
            headers[header::ACCEPT].to_str().unwrap().to_owned()
        };
        assert_eq!(rewritten(None), "application/json, text/event-stream");
        assert_eq!(
            rewritten(Some("*/*")),
            "application/json, text/event-stream"
        );
        assert_eq!(rewritten(Some("text/html")), "text/html");
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_refused_whether_announced_or_not() {
        let big = vec![b'x'; MAX_BODY + 1];
        let announced = Request::builder()
            .header(header::CONTENT_LENGTH, big.len())
            .body(Body::from(big.clone()))
            .unwrap();
        let streamed = Request::new(Body::from_stream(futures::stream::iter([
            Ok::<_, std::io::Error>(big[..MAX_BODY].to_vec()),
            Ok(vec![b'x']),
        ])));
        for request in [announced, streamed] {
            assert_eq!(with_whole_body(request).await.unwrap_err().status(), 413);
        }
        let fitting = Request::new(Body::from(vec![b'x'; MAX_BODY]));
        assert!(with_whole_body(fitting).await.is_ok());
    }

    #[test]
    fn only_health_is_open() {
        assert!(is_open(&Method::GET, "/readyz"));
        assert!(!is_open(&Method::POST, "/readyz"));
        assert!(!is_open(&Method::GET, "/mcp"));
    }
}
