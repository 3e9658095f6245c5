//! `GET /events` of a board.

use serde_json::{Value, json};

use crate::{
    edge::http,
    faces::events::{Events, Told},
    rig::Rig,
};

async fn call(rig: &Rig, tool: &str, arguments: Value) -> Value {
    rig.edge.client(&rig.api_key).call(tool, arguments).await
}

async fn put(rig: &Rig, key: &str, value: Value) -> Value {
    call(
        rig,
        "blackboard_write",
        json!({"board": "strong", "key": key, "value": value}),
    )
    .await
}

fn shown(told: &[Told]) -> Vec<(String, String)> {
    let show = |told: &Told| {
        (
            told.name.clone(),
            told.data["key"].as_str().unwrap_or_default().to_owned(),
        )
    };
    told.iter().map(show).collect()
}

#[tokio::test]
async fn writes_deletes_and_ends_are_told_with_what_was_there_before() {
    let rig = Rig::start().await;
    let mut events = Events::open_at(&rig.edge, &rig.api_key, "?board=strong&previous=true").await;
    let begun = events.position().await;
    assert!(begun.starts_with("board:strong:"), "{begun}");
    put(&rig, "a b", json!({"n": 1.5})).await;
    let second = put(&rig, "a b", json!([2])).await;
    call(
        &rig,
        "blackboard_delete",
        json!({"board": "strong", "key": "a b"}),
    )
    .await;
    call(
        &rig,
        "blackboard_write",
        json!({"board": "strong", "key": "brief", "value": null, "ttl_seconds": 1}),
    )
    .await;
    let told = events.events(5).await;
    let names: Vec<&str> = told.iter().map(|told| told.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "blackboard.put",
            "blackboard.put",
            "blackboard.deleted",
            "blackboard.put",
            "blackboard.expired"
        ]
    );
    let data = &told[1].data;
    assert_eq!(
        (&data["board"], &data["key"], &data["value"]),
        (&json!("strong"), &json!("a b"), &json!([2]))
    );
    assert_eq!(data["revision"], second["revision"]);
    assert_eq!(data["previous_revision"], second["previous_revision"]);
    assert_eq!(data["previous"]["value"], json!({"n": 1.5}));
    assert_eq!(data["writer"], "data_analyst");
    assert_eq!(
        told[1].id,
        format!("board:strong:{}.{}", second["epoch"], second["revision"])
    );
    assert_eq!(told[2].data["previous"]["value"], json!([2]));
    assert_eq!(told[2].data.get("value"), None);
    assert_eq!(
        (&told[4].data["key"], told[4].data.get("value")),
        (&json!("brief"), None)
    );
}

#[tokio::test]
async fn a_reader_that_comes_again_misses_nothing_and_hears_nothing_twice() {
    let rig = Rig::start().await;
    let query = "?board=strong&prefix=t%2F";
    let mut first = Events::open_at(&rig.edge, &rig.api_key, query).await;
    first.position().await;
    put(&rig, "t/1", json!(1)).await;
    put(&rig, "other", json!(1)).await;
    let operations = ["t/2", "t/3", "u"].map(|key| json!({"op": "put", "key": key, "value": 1}));
    call(
        &rig,
        "blackboard_transaction",
        json!({"board": "strong", "then": operations}),
    )
    .await;
    let told = first.events(3).await;
    let keys = ["t/1", "t/2", "t/3"].map(|key| ("blackboard.put".to_owned(), key.to_owned()));
    assert_eq!(shown(&told), keys);
    // in the middle of a revision there is no position to come again from
    assert_eq!(told[1].id, told[0].id);
    assert_ne!(told[2].id, told[0].id);
    drop(first);
    put(&rig, "t/4", json!(1)).await;

    let again = format!("{query}&last_event_id={}", told[1].id);
    let mut again = Events::open_at(&rig.edge, &rig.api_key, &again).await;
    let missed = ["t/2", "t/3", "t/4"].map(|key| ("blackboard.put".to_owned(), key.to_owned()));
    assert_eq!(shown(&again.events(3).await), missed);
    let deleted = format!(
        "?board=strong&events=blackboard.deleted&last_event_id={}",
        told[0].id
    );
    let mut deleted = Events::open_at(&rig.edge, &rig.api_key, &deleted).await;
    call(
        &rig,
        "blackboard_delete",
        json!({"board": "strong", "key": "t/1"}),
    )
    .await;
    assert_eq!(deleted.event().await.name, "blackboard.deleted");
    assert_eq!(again.event().await.data["key"], "t/1");
}

#[tokio::test]
async fn one_key_is_followed_alone() {
    let rig = Rig::start().await;
    let mut events = Events::open_at(&rig.edge, &rig.api_key, "?board=strong&key=a").await;
    events.position().await;
    for key in ["ab", "A", "a/b", "a"] {
        put(&rig, key, json!(1)).await;
    }
    assert_eq!(events.event().await.data["key"], "a");
}

#[tokio::test]
async fn a_position_that_is_gone_is_told_and_the_stream_goes_on() {
    let rig = Rig::start().await;
    let query = "?board=strong&last_event_id=board:strong:999.5";
    let mut events = Events::open_at(&rig.edge, &rig.api_key, query).await;
    let gone = events.event().await;
    assert_eq!(gone.name, "COMPACTED", "{gone:?}");
    assert_eq!(gone.data["resume_after"], json!(gone.id));
    put(&rig, "a", json!(1)).await;
    assert_eq!(events.event().await.data["key"], "a");
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused_before_the_stream_begins() {
    let rig = Rig::start().await;
    for (query, status, reason) in [
        ("?board=no-such", 404, "BOARD_NOT_FOUND"),
        ("?board=strong&agent_id=orchestrator", 403, "AGENT_MISMATCH"),
        ("?board=strong&key=a&prefix=b", 400, "INVALID_ARGUMENT"),
        (
            "?board=strong&last_event_id=grants:1.2",
            400,
            "INVALID_ARGUMENT",
        ),
        ("?events=blackboard.put", 400, "INVALID_ARGUMENT"),
    ] {
        let url = format!("{}/events{query}", rig.edge.url);
        let response = http()
            .get(url)
            .bearer_auth(&rig.api_key)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{query}");
        let told: Value = response.json().await.unwrap();
        assert_eq!(told["reason"], reason, "{query}");
    }
}
