//! What every request passes first: address, Host and Origin, places, credential,
//! size and kind. It fails closed: what is not known to be allowed is refused.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use authguardian_proto::{
    ids::ApiKeyId,
    network::Networks,
    reason::{Problem, Reason},
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use zeroize::Zeroizing;

use super::{
    bound::Bound,
    problem,
    serve::{End, Line},
    ticket,
};
use crate::{
    config::Config,
    core::{AnswerBy, Caller, Core, Credential, Peer, Tool},
};

mod cors;
mod origin;
mod zone;

use origin::AllowList;
use zone::Zones;

/// How much of a body that is refused is read nevertheless, so that the client
/// gets to read the answer.
const MAX_DISCARD: usize = 16 * 1024 * 1024;

/// One guard for all routes.
pub(super) struct Guard {
    core: Arc<Core>,
    networks: Networks,
    allowed: AllowList,
    zones: Zones,
    in_flight: Arc<Bound>,
    bodies: Bodies,
}

/// What a body may be like.
#[derive(Debug, Clone, Copy)]
struct Bodies {
    /// Bytes.
    max: usize,
    /// How long it may take to arrive.
    timeout: Duration,
}

impl Guard {
    /// A guard that answers whom this configuration allows.
    pub(super) fn new(core: Arc<Core>, config: &Config, in_flight: Arc<Bound>) -> Self {
        Self {
            core,
            networks: config.listen.allowed_networks.clone(),
            allowed: AllowList::new(&config.http),
            zones: Zones::new(&config.zones),
            in_flight,
            bodies: Bodies {
                max: usize::try_from(config.limits.max_body_bytes).unwrap_or(usize::MAX),
                timeout: config.limits.body_timeout(),
            },
        }
    }

    /// Finds out where a request comes from; nothing that it says counts yet.
    fn locate(&self, request: &Request) -> Result<(Peer, AnswerBy), Problem> {
        let Some(Line { end, answer, .. }) = request.extensions().get().cloned() else {
            let detail = "the peer of the connection is not known";
            return Err(Problem::new(Reason::Internal, detail));
        };
        let peer = match end {
            End::User { uid, agents } => Peer::from_socket(uid, agents),
            End::Address(address) => self.zones.locate(address, request.headers()),
        };
        Ok((peer, answer))
    }

    /// Refuses what is not for this listener, or not meant for it.
    fn permit(&self, peer: &Peer, request: &Request) -> Result<(), Problem> {
        match peer.address() {
            Some(address) if !self.is_address_allowed(address) => {
                let detail = "this edge does not answer your address";
                Err(Problem::new(Reason::AddressNotAllowed, detail))
            }
            _ => self.allowed.check(request.uri(), request.headers()),
        }
    }

    fn is_address_allowed(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.contains(address)
    }

    /// Finds out who calls, by a credential or, where a page opens a stream, by a
    /// ticket; neither travels further. On a refusal, also which key was named.
    async fn authenticate(
        &self,
        request: &mut Request,
        peer: &Peer,
        answer: AnswerBy,
    ) -> Result<Caller, (Problem, Option<ApiKeyId>)> {
        let read = if is_websocket(request) {
            presented_in_url
        } else {
            presented
        };
        let ticket = ticket::take(request);
        let credential = request.headers_mut().remove(header::AUTHORIZATION);
        if let (None, Some(ticket)) = (&credential, ticket) {
            let (text, page) = (&ticket.text, &ticket.page);
            return self
                .core
                .redeem_ticket(text, page, peer.clone(), answer)
                .await;
        }
        let shown = read(credential.as_ref()).map_err(|problem| (problem, None))?;
        let caller = self.core.authenticate(shown, peer.clone(), answer).await;
        caller.map_err(|problem| {
            let claimed = read(credential.as_ref()).ok();
            (problem, claimed.and_then(|shown| shown.claims()))
        })
    }

    /// Refuses a request, and notes it.
    fn refuse(
        &self,
        request: &Request,
        peer: &Peer,
        problem: &Problem,
        claimed: Option<ApiKeyId>,
    ) -> Response {
        let action = action(request.method(), request.uri().path());
        self.core.note_refusal(peer, action, claimed, problem);
        problem::respond(problem)
    }
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
        ("POST", "/auth/ticket") => "ticket.create".into(),
        ("GET", "/events") => "event.watch".into(),
        (_, path) if path.starts_with("/agents/") => "agent.call".into(),
        (_, path) if path.starts_with("/mcp/resources/") => "resource.read".into(),
        _ => "call.refuse".into(),
    }
}

/// The outer layer. Whatever comes of a request, a page that is allowed here can
/// read it.
pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let page = cors::page(&guard.allowed, request.headers());
    let response = pass(&guard, request, next).await;
    cors::let_read(response, page)
}

async fn pass(guard: &Guard, mut request: Request, next: Next) -> Response {
    let (peer, answer) = match guard.locate(&request) {
        Ok(located) => located,
        Err(problem) => return problem::respond(&problem),
    };
    if let Err(problem) = guard.permit(&peer, &request) {
        return guard.refuse(&request, &peer, &problem, None);
    }
    if let Some(answer) = cors::preflight(&request) {
        return answer;
    }
    if is_open(request.method(), request.uri().path()) {
        request.extensions_mut().insert(peer);
        return next.run(request).await;
    }
    if request.uri().path().starts_with("/.well-known/") {
        // MCP clients look here for OAuth, which this edge does not speak
        return problem::not_found(format!("there is nothing at `{}`", request.uri().path()));
    }
    let _place = match guard.in_flight.enter() {
        Ok(place) => place,
        Err(problem) => return problem::respond(&problem),
    };
    if is_login(request.method(), request.uri().path()) {
        // its credential is in its body
        request.extensions_mut().insert(peer);
        return match with_whole_body(request, guard.bodies).await {
            Ok(request) => next.run(request).await,
            Err(response) => response,
        };
    }
    let caller = match guard.authenticate(&mut request, &peer, answer).await {
        Ok(caller) => caller,
        Err((problem, claimed)) => {
            let refused = guard.refuse(&request, &peer, &problem, claimed);
            discard(request.into_body()).await;
            return refused;
        }
    };
    let _place_of_key = match guard.in_flight.enter_with(caller.api_key_id()) {
        Ok(place) => place,
        Err(problem) => {
            discard(request.into_body()).await;
            return problem::respond(&problem);
        }
    };
    request.extensions_mut().insert(caller);
    if is_mcp(request.uri().path()) {
        let stream_only = request.method() == Method::GET;
        accept_leniently(request.headers_mut(), stream_only);
    }
    match with_whole_body(request, guard.bodies).await {
        Ok(request) => next.run(request).await,
        Err(response) => response,
    }
}

/// Where Streamable HTTP is spoken: with this edge, or with an agent.
fn is_mcp(path: &str) -> bool {
    path == "/mcp" || (path.starts_with("/agents/") && path.ends_with("/mcp"))
}

/// What needs no credential: nothing in it depends on who asks.
fn is_open(method: &Method, path: &str) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
        && matches!(path, "/livez" | "/readyz" | "/openapi.json")
}

/// What turns a key into a session, for whoever does not have one yet.
fn is_login(method: &Method, path: &str) -> bool {
    *method == Method::POST && matches!(path, "/auth/challenge" | "/auth/session")
}

fn presented(credential: Option<&HeaderValue>) -> Result<Credential, Problem> {
    let missing = || {
        let detail = "present an API key or a session token: `Authorization: Bearer agk_…`";
        Problem::new(Reason::Unauthenticated, detail)
    };
    let text = credential
        .and_then(|value| value.to_str().ok())
        .ok_or_else(missing)?;
    let (scheme, key) = text.split_once(' ').ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(missing());
    }
    Ok(Credential::new(key.trim()))
}

/// Stock WebSocket clients can send nothing but a URL: `ws://any:agk_…@host`
/// becomes a Basic credential (RFC 7617), whose password is the key.
fn presented_in_url(credential: Option<&HeaderValue>) -> Result<Credential, Problem> {
    let Some(text) = credential.and_then(|value| value.to_str().ok()) else {
        return presented(credential);
    };
    let Some((scheme, encoded)) = text.split_once(' ') else {
        return presented(credential);
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return presented(credential);
    }
    let decoded = STANDARD.decode(encoded.trim()).map(Zeroizing::new);
    let password = decoded.as_ref().ok().and_then(|pair| {
        let pair = std::str::from_utf8(pair).ok()?;
        pair.split_once(':').map(|(_, password)| password)
    });
    password.map(Credential::new).ok_or_else(|| {
        let detail = "expected Base64 of `user:agk_…` after `Basic`";
        Problem::new(Reason::Unauthenticated, detail)
    })
}

fn is_websocket(request: &Request) -> bool {
    request
        .headers()
        .get(header::UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
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
async fn with_whole_body(request: Request, allowed: Bodies) -> Result<Request, Response> {
    let Bodies { max, timeout } = allowed;
    let too_large = || {
        let detail = format!("the body has more than {max} bytes");
        problem::respond(&Problem::new(Reason::TooLarge, detail))
    };
    let (parts, body) = request.into_parts();
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > max) {
        discard(body).await;
        return Err(too_large());
    }
    match tokio::time::timeout(timeout, Limited::new(body, max).collect()).await {
        Ok(Ok(whole)) => {
            let whole = whole.to_bytes();
            // `rmcp` has its own word on that
            if !whole.is_empty() && parts.uri.path() != "/mcp" {
                problem::needs_json(&parts.headers).map_err(|refused| *refused)?;
            }
            Ok(Request::from_parts(parts, Body::from(whole)))
        }
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
pub(super) fn authority<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(http::uri::Authority::as_str),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODIES: Bodies = Bodies {
        max: 1024 * 1024,
        timeout: Duration::from_secs(30),
    };
    const KEY: &str = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";

    fn read(text: &str) -> Result<Credential, Problem> {
        presented(Some(&HeaderValue::from_str(text).unwrap()))
    }

    #[test]
    fn only_a_bearer_of_something_is_a_credential() {
        for good in [format!("Bearer {KEY}"), format!("bearer  {KEY} ")] {
            let key = read(&good).unwrap().claims().unwrap();
            assert_eq!(key.to_string(), "apk_0000000000000000000001");
        }
        assert!(matches!(read("Bearer a.b.c"), Ok(Credential::Session(_))));
        for bad in ["", "Bearer", "Basic YTpi", KEY] {
            assert_eq!(
                read(bad).unwrap_err().reason,
                Reason::Unauthenticated,
                "{bad}"
            );
        }
        assert_eq!(presented(None).unwrap_err().reason, Reason::Unauthenticated);
    }

    #[test]
    fn a_websocket_takes_a_key_as_the_password_of_its_url() {
        let basic = |pair: &str| {
            let header = format!("Basic {}", STANDARD.encode(pair));
            presented_in_url(Some(&HeaderValue::from_str(&header).unwrap()))
        };
        let key = basic(&format!("any:{KEY}")).unwrap().claims().unwrap();
        assert_eq!(key.to_string(), "apk_0000000000000000000001");
        assert!(basic("nothing").is_err());
        let bearer = HeaderValue::from_str(&format!("Bearer {KEY}")).unwrap();
        assert!(presented_in_url(Some(&bearer)).is_ok());
        let no_base64 = HeaderValue::from_static("Basic =");
        assert!(presented_in_url(Some(&no_base64)).is_err());
        assert!(presented_in_url(None).is_err());
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
            (Method::POST, "/agents/a%2Fb/mcp", "agent.call"),
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
        let big = vec![b'x'; BODIES.max + 1];
        let announced = Request::builder()
            .header(header::CONTENT_LENGTH, big.len())
            .body(Body::from(big.clone()))
            .unwrap();
        let streamed = Request::new(Body::from_stream(futures::stream::iter([
            Ok::<_, std::io::Error>(big[..BODIES.max].to_vec()),
            Ok(vec![b'x']),
        ])));
        for request in [announced, streamed] {
            assert_eq!(
                with_whole_body(request, BODIES).await.unwrap_err().status(),
                413
            );
        }
        let fitting = Request::new(Body::from(vec![b'x'; BODIES.max]));
        assert!(with_whole_body(fitting, BODIES).await.is_ok());
    }

    #[test]
    fn only_health_and_the_description_are_open() {
        for path in ["/livez", "/readyz", "/openapi.json"] {
            assert!(is_open(&Method::GET, path) && is_open(&Method::HEAD, path));
        }
        assert!(!is_open(&Method::POST, "/readyz"));
        assert!(!is_open(&Method::GET, "/mcp"));
        assert!(is_login(&Method::POST, "/auth/session"));
        for (method, path) in [
            (Method::GET, "/auth/session"),
            (Method::DELETE, "/auth/session"),
            (Method::POST, "/auth/session/renew"),
            (Method::POST, "/mcp"),
        ] {
            assert!(!is_login(&method, path), "{method} {path}");
        }
    }
}
