//! What is told, to whom, and until when.

use std::{fs, time::Duration};

use authguardian_proto::{network::Networks, rate::RateLimits};
use control_plane::events::RevocationTarget;
use reqwest::StatusCode;
use serde_json::json;

use super::{Events, expire, get, revoke_matching};
use crate::{
    audit::entries,
    edge::{asking, read},
    rig::Rig,
    wait::until,
};

/// A rig, and a key for the agent that its own key does not speak for.
async fn with_other() -> (Rig, String) {
    let rig = Rig::start().await;
    let other = rig.control_plane.api_key(&["orchestrator"], false).await;
    (rig, other)
}

#[tokio::test]
async fn a_grants_life_is_told_to_its_holder_and_to_nobody_else() {
    let (rig, other) = with_other().await;
    let client = rig.edge.client(&rig.api_key);
    let mut mine = Events::open(&rig.edge, &rig.api_key).await;
    let mut others = Events::open(&rig.edge, &other).await;
    let begun = mine.position().await;
    assert!(begun.starts_with("grants:1."), "{begun}");
    assert!(
        mine.retry
            .is_some_and(|retry| (1000..4000).contains(&retry))
    );

    let (granted, token) = client.granted().await;
    let told = mine.event().await;
    assert_eq!(told.name, "grant.granted");
    for field in ["grant_id", "expires_at"] {
        assert_eq!(told.data[field], granted[field], "{field}");
    }
    assert_eq!(told.data["agent_id"], "data_analyst");
    assert_eq!(told.data["resource_type"], "SAP_API");
    assert!(told.data["occurred_at"].as_str().unwrap().ends_with('Z'));
    assert_ne!(told.id, begun);

    let renewed = client
        .call(
            "renew_permission",
            json!({"token": token, "ttl_seconds": 600}),
        )
        .await;
    let told = mine.event().await;
    assert_eq!(told.name, "grant.renewed");
    assert_eq!(told.data["expires_at"], renewed["expires_at"]);

    client.call("revoke_token", json!({"token": token})).await;
    let told = mine.event().await;
    assert_eq!(told.name, "grant.revoked");
    assert_eq!(told.grant(), granted["grant_id"]);

    let expired = expire(&rig.control_plane, "data_analyst", 1).await;
    let told = mine.event().await;
    assert_eq!(
        (told.name.as_str(), told.grant()),
        ("grant.expired", expired[0].as_str())
    );

    // the other has heard of none of it: its first event is its own
    rig.edge
        .client(&other)
        .call("request_permission", asking("orchestrator"))
        .await;
    let told = others.event().await;
    assert_eq!(told.data["agent_id"], "orchestrator", "{told:?}");
    revoke_matching(
        &rig.control_plane,
        RevocationTarget::Agent("orchestrator".parse().unwrap()),
    )
    .await;
    let told = others.event().await;
    assert_eq!(told.name, "grants.revoked");
    assert_eq!(told.data["target"], json!({"agent_id": "orchestrator"}));

    // what may be anybody's is told to everybody
    revoke_matching(
        &rig.control_plane,
        RevocationTarget::ResourceType("SAP_API".parse().unwrap()),
    )
    .await;
    for stream in [&mut mine, &mut others] {
        let told = stream.event().await;
        assert_eq!(told.name, "grants.revoked");
        assert_eq!(told.data["target"], json!({"resource_type": "SAP_API"}));
    }
}

#[tokio::test]
async fn only_what_is_asked_for_is_told() {
    let rig = Rig::start().await;
    let key = ["data_analyst", "orchestrator"];
    let key = rig.control_plane.api_key(&key, false).await;
    let client = rig.edge.client(&key);
    let mut ended = Events::open_at(&rig.edge, &key, "?events=grant.revoked,grants.*").await;
    let mut one = Events::open_at(&rig.edge, &key, "?agent_id=orchestrator&events=grant.*").await;
    let (granted, token) = client.granted().await;
    let theirs = client
        .call("request_permission", asking("orchestrator"))
        .await;
    client.call("revoke_token", json!({"token": token})).await;
    assert_eq!(ended.event().await.grant(), granted["grant_id"]);
    assert_eq!(one.event().await.grant(), theirs["grant_id"]);
    expire(&rig.control_plane, "data_analyst", 1).await;
    let last = expire(&rig.control_plane, "orchestrator", 1).await;
    assert_eq!(one.event().await.grant(), last[0]);
    revoke_matching(&rig.control_plane, RevocationTarget::Everything).await;
    let told = ended.event().await;
    assert_eq!(told.data["target"], json!({"everything": true}));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_the_field_at_fault() {
    let rig = Rig::start().await;
    for (query, last_id, field) in [
        ("?events=grant.nonsense", None, "events"),
        ("?events=grants", None, "events"),
        ("?agent_id=a%20b", None, "agent_id"),
        ("?agent=data_analyst", None, "agent"),
        ("?last_event_id=7", None, "last_event_id"),
        ("", Some("7"), "Last-Event-ID"),
        ("", Some("identity:1.1"), "Last-Event-ID"),
        ("?events=grant.%ff", None, "events"),
    ] {
        let mut request = get(&rig.edge, query).bearer_auth(&rig.api_key);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let (status, body) = read(request.send().await.unwrap()).await;
        assert_eq!(
            (status, &body["reason"], &body["field"]),
            (
                StatusCode::BAD_REQUEST,
                &json!("INVALID_ARGUMENT"),
                &json!(field)
            ),
            "{query} {last_id:?}"
        );
    }
    let foreign = get(&rig.edge, "?agent_id=orchestrator").bearer_auth(&rig.api_key);
    let (status, body) = read(foreign.send().await.unwrap()).await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::FORBIDDEN, &json!("AGENT_MISMATCH"))
    );
    assert_eq!(body["field"], "agent_id");
    entries(&rig.control_plane, ("event.watch", "AGENT_MISMATCH"), 1).await;
    let nobody = get(&rig.edge, "").send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    entries(&rig.control_plane, ("event.watch", "UNAUTHENTICATED"), 1).await;
}

#[tokio::test]
async fn a_stream_that_begins_is_one_call_of_its_key() {
    let rig = Rig::start().await;
    let limits = RateLimits {
        all: Some("1/3".parse().unwrap()),
        ..RateLimits::default()
    };
    let (_, key) = rig
        .control_plane
        .limited_key(&["data_analyst"], limits, Networks::default())
        .await;
    let mut open = Vec::new();
    for number in 0.. {
        assert!(number < 20, "nothing limits it");
        let response = get(&rig.edge, "").bearer_auth(&key).send().await.unwrap();
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let (_, body) = read(response).await;
            assert_eq!(body["reason"], "RATE_LIMITED");
            break;
        }
        open.push(response);
    }
    assert!(open.len() >= 3, "{}", open.len());
}

#[tokio::test]
async fn a_stream_says_that_it_ends_with_its_key_or_its_edge() {
    let mut rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let mut of_key = Events::open(&rig.edge, &key).await;
    let mut of_edge = Events::open(&rig.edge, &rig.api_key).await;
    let position = of_key.position().await;
    rig.control_plane.revoke_api_key(id).await;
    let told = of_key.rest().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].name, "UNAUTHENTICATED");
    assert_eq!(told[0].data["reason"], "UNAUTHENTICATED");
    assert_eq!(told[0].data["resume_after"], json!(position));

    of_edge.position().await;
    rig.edge.ask_to_end();
    let told = of_edge.rest().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].name, "UNAVAILABLE");
    assert_eq!(rig.edge.terminate().await, Some(0));
}

#[tokio::test]
async fn nothing_is_left_of_streams_whose_clients_have_gone() {
    const STREAMS: usize = 100;
    let rig = Rig::start().await;
    let dir = format!("/proc/{}/fd", rig.edge.pid());
    let descriptors = || fs::read_dir(&dir).unwrap().count();
    let client = rig.edge.client(&rig.api_key);
    client.granted().await;
    let before = descriptors();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Events::open(&rig.edge, &rig.api_key).await;
        stream.position().await;
        streams.push(stream);
    }
    assert!(descriptors() >= before + STREAMS);
    drop(streams);
    until("the edge has let go of them", || descriptors() < before + 5).await;
    assert_eq!(
        client.resource("grants://active").await["grants"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

/// Longer than between two signs of life.
const SILENCE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn who_is_told_nothing_is_told_how_far_it_has_come() {
    let rig = Rig::start().await;
    let mut quiet = Events::open(&rig.edge, &rig.api_key).await;
    let begun = quiet.position().await;
    expire(&rig.control_plane, "orchestrator", 3).await;
    let next = tokio::time::timeout(SILENCE, quiet.position())
        .await
        .unwrap();
    assert_ne!(next, begun);
}
