//! Tickets over HTTP: made by `POST /auth/ticket`, used as `?ticket=` where a
//! page opens a stream and cannot send a header.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::PathAndQuery},
    response::Response,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{auth, guard};
use crate::core::{Caller, Core, Page};

/// A ticket for one stream.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TicketAnswer {
    /// What to open the stream with, as `?ticket=`; `agt_…`.
    ticket: String,
    /// After this it is refused, RFC 3339 in UTC.
    expires_at: String,
}

/// `POST /auth/ticket`: a ticket for one stream of the page that asks.
pub(super) async fn make(
    State(core): State<Arc<Core>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let made = async {
        if !body.trim_ascii().is_empty() {
            auth::body::read(&body, &[])?;
        }
        core.make_ticket(&caller, page(&uri, &headers)).await
    };
    auth::respond(made.await.map(|(ticket, ends)| {
        let answer = TicketAnswer {
            ticket: ticket.expose().to_string(),
            expires_at: auth::rfc3339(ends),
        };
        (StatusCode::CREATED, answer)
    }))
}

/// A ticket as it was presented, and by which page.
pub(super) struct Presented {
    pub(super) text: String,
    pub(super) page: Page,
}

/// Takes the ticket out of a request that may have one: it does not travel
/// further. Only what opens a stream may: a URL is written down in more places
/// than a header.
pub(super) fn take(request: &mut Request) -> Option<Presented> {
    if !opens_stream(request.method(), request.uri().path()) {
        return None;
    }
    let (text, rest) = split(request.uri().query()?)?;
    let page = page(request.uri(), request.headers());
    let path = request.uri().path();
    let whole = match rest.as_str() {
        "" => path.to_owned(),
        rest => format!("{path}?{rest}"),
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(whole).ok()?);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(Presented { text, page })
}

/// The routes whose streams browsers open without a header of their own; `/` is
/// one where WebSocket is alone, and nowhere else a path.
fn opens_stream(method: &Method, path: &str) -> bool {
    *method == Method::GET && matches!(path, "/events" | "/sse" | "/ws" | "/")
}

/// The first ticket, and the query without any.
fn split(query: &str) -> Option<(String, String)> {
    let (tickets, rest): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|pair| pair.starts_with("ticket="));
    let (_, text) = tickets.first()?.split_once('=')?;
    Some((text.to_owned(), rest.join("&")))
}

fn page(uri: &Uri, headers: &HeaderMap) -> Page {
    let origins: Vec<_> = headers
        .get_all(header::ORIGIN)
        .iter()
        .map(|origin| String::from_utf8_lossy(origin.as_bytes()))
        .collect();
    // no page can set it
    let is_own = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "same-origin");
    let authority = guard::authority(uri, headers).filter(|_| is_own);
    Page {
        origin: (!origins.is_empty()).then(|| origins.join(", ")),
        own_authority: authority.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: Method, uri: &str) -> Request {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "edge.example")
            .header(header::ORIGIN, "https://app.example");
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_ticket_is_taken_out_of_the_query_and_leaves_the_rest() {
        for (uri, left) in [
            ("/events?ticket=agt_1", "/events"),
            (
                "/events?events=grant.*&ticket=agt_1&agent_id=a",
                "/events?events=grant.*&agent_id=a",
            ),
            ("/ws?ticket=agt_1&ticket=agt_2", "/ws"),
            (
                "http://edge.example/sse?ticket=agt_1",
                "http://edge.example/sse",
            ),
        ] {
            let mut request = request(Method::GET, uri);
            let presented = take(&mut request).unwrap();
            assert_eq!(presented.text, "agt_1", "{uri}");
            assert_eq!(
                presented.page.origin.as_deref(),
                Some("https://app.example")
            );
            assert_eq!(request.uri().to_string(), left);
        }
    }

    #[test]
    fn only_what_opens_a_stream_has_one() {
        for (method, uri) in [
            (Method::POST, "/events?ticket=agt_1"),
            (Method::HEAD, "/events?ticket=agt_1"),
            (Method::GET, "/mcp?ticket=agt_1"),
            (Method::GET, "/mcp/resources/grants://active?ticket=agt_1"),
            (Method::GET, "/auth/session?ticket=agt_1"),
            (Method::GET, "/events/?ticket=agt_1"),
            (Method::GET, "/events?tickets=agt_1"),
            (Method::GET, "/events"),
        ] {
            let mut request = request(method, uri);
            assert!(take(&mut request).is_none(), "{uri}");
            assert_eq!(request.uri().to_string(), uri);
        }
    }

    #[test]
    fn a_request_without_origin_is_of_the_edges_own_page_only_where_the_browser_says_so() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "edge.example:3001".parse().unwrap());
        let uri = Uri::from_static("/events");
        assert_eq!(page(&uri, &headers), Page::default());
        headers.insert("sec-fetch-site", "cross-site".parse().unwrap());
        assert_eq!(page(&uri, &headers), Page::default());
        headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
        let own = page(&uri, &headers).own_authority;
        assert_eq!(own.as_deref(), Some("edge.example:3001"));
    }
}
