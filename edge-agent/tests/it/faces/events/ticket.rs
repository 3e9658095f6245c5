//! Tickets: streams of pages, which cannot send a credential.

use authguardian_proto::{network::Networks, rate::RateLimits};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Events, get};
use crate::{
    audit::entries,
    edge::{Edge, http, read},
    faces::rig,
    rig::Rig,
};

const PAGE: &str = "http://localhost:5173";

/// Asks for a ticket as a page does, or as no page.
async fn ask(edge: &Edge, key: &str, page: Option<&str>) -> (StatusCode, Value) {
    let mut request = http().post(format!("{}/auth/ticket", edge.url));
    if let Some(page) = page {
        request = request.header(header::ORIGIN, page);
    }
    read(request.bearer_auth(key).send().await.unwrap()).await
}

async fn ticket(edge: &Edge, key: &str, page: Option<&str>) -> String {
    let (status, made) = ask(edge, key, page).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert!(made["expires_at"].as_str().unwrap().ends_with('Z'));
    made["ticket"].as_str().unwrap().to_owned()
}

fn with(edge: &Edge, ticket: &str, page: Option<&str>) -> reqwest::RequestBuilder {
    let request = get(edge, &format!("?ticket={ticket}"));
    match page {
        Some(page) => request.header(header::ORIGIN, page),
        None => request,
    }
}

/// Status and reason of a stream that does not begin.
async fn refused(edge: &Edge, ticket: &str, page: Option<&str>) -> (u16, String) {
    let response = with(edge, ticket, page).send().await.unwrap();
    let (status, body) = read(response).await;
    (status.as_u16(), body["reason"].as_str().unwrap().to_owned())
}

fn unauthenticated() -> (u16, String) {
    (401, "UNAUTHENTICATED".to_owned())
}

#[tokio::test]
async fn a_ticket_opens_one_stream_of_its_page_and_of_no_other() {
    let rig = Rig::start().await;
    let edge = &rig.edge;
    for page in [Some(PAGE), None] {
        let once = ticket(edge, &rig.api_key, page).await;
        assert!(once.starts_with("agt_") && once.len() == 47, "{once}");
        let mut stream = Events::begin(with(edge, &once, page)).await;
        stream.position().await;
        let (granted, _) = edge.client(&rig.api_key).granted().await;
        assert_eq!(stream.event().await.grant(), granted["grant_id"]);
        assert_eq!(refused(edge, &once, page).await, unauthenticated(), "used");
    }
    for (made_for, used_by) in [
        (Some(PAGE), None),
        (None, Some(PAGE)),
        (Some(PAGE), Some("http://localhost:5174")),
        (Some(PAGE), Some("https://localhost:5173")),
    ] {
        let other = ticket(edge, &rig.api_key, made_for).await;
        assert_eq!(refused(edge, &other, used_by).await, unauthenticated());
        // whoever has shown it to the wrong page has lost it
        assert_eq!(refused(edge, &other, made_for).await, unauthenticated());
    }
    for rubbish in ["", "agt_", "agt_0", &"agt_0".repeat(500), &rig.api_key] {
        assert_eq!(refused(edge, rubbish, None).await, unauthenticated());
    }
    entries(&rig.control_plane, ("event.watch", "UNAUTHENTICATED"), 15).await;
}

#[tokio::test]
async fn a_ticket_is_no_credential_for_anything_but_a_stream() {
    let rig = Rig::start().await;
    for (method, path) in [
        (Method::GET, "/mcp/resources/grants://active"),
        (Method::GET, "/auth/session"),
        (Method::POST, "/auth/ticket"),
        (Method::POST, "/mcp/tools/request_permission"),
        (Method::GET, "/mcp"),
        (Method::HEAD, "/events"),
    ] {
        let once = ticket(&rig.edge, &rig.api_key, None).await;
        let url = format!("{}{path}?ticket={once}", rig.edge.url);
        let response = http().request(method, url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        // it was not even looked at
        let mut stream = Events::begin(with(&rig.edge, &once, None)).await;
        stream.position().await;
    }
    // and in a header it is none at all
    let once = ticket(&rig.edge, &rig.api_key, None).await;
    let in_header = get(&rig.edge, "").bearer_auth(once).send().await.unwrap();
    assert_eq!(in_header.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_of_a_ticket_ends_with_what_the_ticket_was_made_with() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let used = ticket(&rig.edge, &key, None).await;
    let unused = ticket(&rig.edge, &key, None).await;
    let mut stream = Events::begin(with(&rig.edge, &used, None)).await;
    stream.position().await;
    rig.control_plane.revoke_api_key(id).await;
    let told = stream.rest().await;
    assert_eq!(
        told.last().map(|told| told.name.as_str()),
        Some("UNAUTHENTICATED")
    );
    assert_eq!(
        refused(&rig.edge, &unused, None).await,
        (401, "API_KEY_REVOKED".to_owned())
    );
    entries(&rig.control_plane, ("event.watch", "API_KEY_REVOKED"), 1).await;
}

#[tokio::test]
async fn a_ticket_is_checked_from_where_it_is_used() {
    let rig = rig(&[
        ("AUTHGUARDIAN_ZONES__TRUSTED_PROXIES", "127.0.0.1"),
        ("AUTHGUARDIAN_ZONES__TRUSTED_NETWORKS", "10.0.0.0/8"),
    ])
    .await;
    let network: Networks = std::iter::once("203.0.113.0/24".parse().unwrap()).collect();
    let (_, bound) = rig
        .control_plane
        .limited_key(&["data_analyst"], RateLimits::default(), network)
        .await;
    let made_from = async |key: &str, address: &str| {
        let request = http()
            .post(format!("{}/auth/ticket", rig.edge.url))
            .header("x-forwarded-for", address)
            .bearer_auth(key);
        let (_, made) = read(request.send().await.unwrap()).await;
        made["ticket"].as_str().unwrap().to_owned()
    };
    let used_from = async |ticket: &str, address: &str| {
        let request = with(&rig.edge, ticket, None).header("x-forwarded-for", address);
        request.send().await.unwrap()
    };
    for (key, made, used, refused) in [
        (&rig.api_key, "127.0.0.1", "10.1.2.3", Some("ZONE_FORBIDS")),
        (
            &rig.api_key,
            "10.1.2.3",
            "203.0.113.5",
            Some("ZONE_FORBIDS"),
        ),
        (
            &bound,
            "203.0.113.5",
            "198.51.100.1",
            Some("ADDRESS_NOT_ALLOWED"),
        ),
        (&rig.api_key, "203.0.113.5", "198.51.100.1", None),
        (&rig.api_key, "203.0.113.5", "10.1.2.3", None),
        (&bound, "203.0.113.5", "203.0.113.6", None),
    ] {
        let ticket = made_from(key, made).await;
        let response = used_from(&ticket, used).await;
        let Some(reason) = refused else {
            assert_eq!(response.status(), StatusCode::OK, "{made} {used}");
            continue;
        };
        let (status, body) = read(response).await;
        assert_eq!((status.as_u16(), &body["reason"]), (403, &json!(reason)));
    }
    // from outside, that it was called at all
    entries(&rig.control_plane, ("event.watch", ""), 2).await;
}

#[tokio::test]
async fn one_key_has_only_so_many_unused_tickets() {
    let rig = Rig::start().await;
    let mut made = 0;
    let refused = loop {
        let (status, body) = ask(&rig.edge, &rig.api_key, None).await;
        if status != StatusCode::CREATED {
            break (status, body);
        }
        made += 1;
        assert!(made <= 64, "nothing bounds it");
    };
    assert_eq!(made, 64);
    assert_eq!(refused.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.1["reason"], "RESOURCE_EXHAUSTED");
    let body = http()
        .post(format!("{}/auth/ticket", rig.edge.url))
        .bearer_auth(&rig.api_key)
        .json(&json!({"for": "/events"}));
    let (status, body) = read(body.send().await.unwrap()).await;
    assert_eq!(
        (status, &body["field"]),
        (StatusCode::BAD_REQUEST, &json!("for"))
    );
}
