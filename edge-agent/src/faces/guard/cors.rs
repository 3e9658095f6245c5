//! What pages of allowed origins may send and read (Fetch, "CORS protocol").
//! The layer of `tower-http` does not fit: it answers every `OPTIONS` before
//! anybody has looked at address, host and origin, or stands behind the guard,
//! whose refusals pages then could not read.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};

use super::origin::AllowList;

const METHODS: &str = "GET, POST, DELETE";
const ALLOWED: &str = "Authorization, Content-Type, Mcp-Session-Id, MCP-Protocol-Version, \
    Mcp-Method, Mcp-Name, Last-Event-ID";
const EXPOSED: &str = "Mcp-Session-Id, WWW-Authenticate, Retry-After";
/// Seconds that a browser may remember an answer.
const MAX_AGE: &str = "600";

/// Of a page on a network that asks for something on a more private one.
const ASKS_PRIVATELY: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATELY: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// The page that asks, if its origin is allowed.
pub(super) fn page(allowed: &AllowList, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    allowed
        .is_origin_allowed(origin.to_str().ok()?)
        .then(|| origin.clone())
}

/// The answer to a browser that asks before it sends what a page wants; no
/// credential comes with that.
pub(super) fn preflight(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let is_preflight = *request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    if headers.contains_key(ASKS_PRIVATELY) {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert(ALLOWS_PRIVATELY, yes);
    }
    Some(response)
}

/// Lets an allowed page read an answer; caches are told that another gets another.
pub(super) fn let_read(mut response: Response, page: Option<HeaderValue>) -> Response {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(page) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
        let exposed = HeaderValue::from_static(EXPOSED);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Http;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_one_allowed_origin_is_a_page() {
        let allowed = AllowList::new(&Http::default());
        let page = |origins: &[&str]| {
            let origins: Vec<_> = origins.iter().map(|origin| ("origin", *origin)).collect();
            page(&allowed, request(Method::GET, &origins).headers())
        };
        let own = "http://localhost:5173";
        assert_eq!(page(&[own]), Some(HeaderValue::from_static(own)));
        for none in [
            &[][..],
            &["https://evil.example"],
            &["null"],
            &[own, "https://evil.example"],
        ] {
            assert_eq!(page(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_preflight_is_told_from_any_other_request() {
        let origin = ("origin", "http://localhost");
        let asks = ("access-control-request-method", "POST");
        assert!(preflight(&request(Method::OPTIONS, &[origin])).is_none());
        assert!(preflight(&request(Method::OPTIONS, &[asks])).is_none());
        assert!(preflight(&request(Method::POST, &[origin, asks])).is_none());
        let answer = preflight(&request(Method::OPTIONS, &[origin, asks])).unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert!(!answer.headers().contains_key(ALLOWS_PRIVATELY));
        let privately = ("access-control-request-private-network", "true");
        let answer = preflight(&request(Method::OPTIONS, &[origin, asks, privately])).unwrap();
        assert_eq!(answer.headers()[ALLOWS_PRIVATELY], "true");
    }

    #[test]
    fn an_answer_says_that_it_is_for_its_page() {
        let page = HeaderValue::from_static("http://localhost:5173");
        let answer = let_read(Response::new(Body::empty()), Some(page.clone()));
        let headers = answer.headers();
        assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], page);
        assert_eq!(headers[header::VARY], "Origin");
        let other = let_read(Response::new(Body::empty()), None);
        assert_eq!(other.headers().len(), 1, "{other:?}");
    }
}
