//! What pages may send and read.

use reqwest::{Method, Response, StatusCode, header};

use crate::{
    edge::{Edge, asking, http},
    faces::rig,
};

const PAGE: &str = "https://app.example";

async fn preflight(edge: &Edge, path: &str, origin: &str) -> Response {
    http()
        .request(Method::OPTIONS, format!("{}{path}", edge.url))
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            "authorization,content-type",
        )
        .send()
        .await
        .unwrap()
}

fn header_of<'a>(response: &'a Response, name: &header::HeaderName) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call_and_read_every_answer() {
    let rig = rig(&[("AUTHGUARDIAN_HTTP__ALLOWED_ORIGINS", PAGE)]).await;
    for path in [
        "/mcp",
        "/mcp/tools/request_permission",
        "/auth/ticket",
        "/events",
    ] {
        let answer = preflight(&rig.edge, path, PAGE).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(
            header_of(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN),
            PAGE
        );
        let allowed = header_of(&answer, &header::ACCESS_CONTROL_ALLOW_HEADERS).to_lowercase();
        for name in [
            "authorization",
            "content-type",
            "mcp-session-id",
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "last-event-id",
        ] {
            assert!(allowed.split(", ").any(|one| one == name), "{name}");
        }
        let methods = header_of(&answer, &header::ACCESS_CONTROL_ALLOW_METHODS);
        assert_eq!(methods, "GET, POST, DELETE");
    }
    let post = |key: Option<&str>| {
        let request = http()
            .post(format!("{}/mcp/tools/request_permission", rig.edge.url))
            .header(header::ORIGIN, PAGE)
            .json(&asking("data_analyst"));
        match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    };
    let orchestrator = rig.control_plane.api_key(&["orchestrator"], false).await;
    for (key, status) in [
        (Some(rig.api_key.as_str()), StatusCode::OK),
        (Some(orchestrator.as_str()), StatusCode::FORBIDDEN),
        (None, StatusCode::UNAUTHORIZED),
    ] {
        let answer = post(key).send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(
            header_of(&answer, &header::ACCESS_CONTROL_ALLOW_ORIGIN),
            PAGE
        );
        assert_eq!(header_of(&answer, &header::VARY), "Origin");
        let exposed = header_of(&answer, &header::ACCESS_CONTROL_EXPOSE_HEADERS);
        assert_eq!(exposed, "Mcp-Session-Id, WWW-Authenticate, Retry-After");
    }
    let missing = http()
        .get(format!("{}/nothing", rig.edge.url))
        .header(header::ORIGIN, PAGE)
        .bearer_auth(&rig.api_key);
    let missing = missing.send().await.unwrap();
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        header_of(&missing, &header::ACCESS_CONTROL_ALLOW_ORIGIN),
        PAGE
    );
}

#[tokio::test]
async fn other_pages_learn_nothing_and_who_is_no_page_is_told_nothing_of_it() {
    let rig = rig(&[("AUTHGUARDIAN_HTTP__ALLOWED_ORIGINS", PAGE)]).await;
    for origin in ["https://evil.example", "http://app.example", "null"] {
        let answer = preflight(&rig.edge, "/mcp", origin).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{origin}");
        for name in [
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ] {
            assert_eq!(header_of(&answer, &name), "", "{origin}");
        }
    }
    let rebound = http()
        .request(Method::OPTIONS, format!("{}/mcp", rig.edge.url))
        .header(header::HOST, "evil.example")
        .header(header::ORIGIN, PAGE)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST");
    let rebound = rebound.send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::FORBIDDEN);
    let plain = http()
        .get(format!("{}/auth/session", rig.edge.url))
        .bearer_auth(&rig.api_key);
    let plain = plain.send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::OK);
    assert_eq!(header_of(&plain, &header::ACCESS_CONTROL_ALLOW_ORIGIN), "");
    let options = http().request(Method::OPTIONS, format!("{}/mcp", rig.edge.url));
    assert_eq!(
        options.send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}
