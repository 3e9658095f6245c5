//! Whom an id belongs to, and what is refused to others.

use serde_json::{Value, json};

use super::{Fleet, everybody, of, reader};
use crate::edge::RestClient;

/// Refused over REST and over MCP with the same reason, field and sentence.
async fn refused(client: &RestClient, tool: &str, arguments: Value, reason: &str, field: &str) {
    let (status, body) = client.try_call(tool, arguments.clone()).await;
    assert!(!status.is_success(), "{body}");
    assert_eq!(
        (&body["reason"], &body["field"]),
        (&json!(reason), &json!(field)),
        "{body}"
    );
    let detail = body["detail"].as_str().unwrap();
    assert!(detail.len() > 10, "{detail}");
    let answer = client.mcp_call(tool, arguments).await;
    assert!(
        answer.contains(reason) && answer.contains("\"isError\":true"),
        "{answer}"
    );
}

#[tokio::test]
async fn nobody_registers_or_keeps_alive_what_its_key_does_not_speak_for() {
    let fleet = Fleet::start().await;
    let edge = fleet.edge("first").await;
    let stranger = edge.client(&fleet.seeker);
    edge.client(&fleet.key)
        .call("register_agent", reader())
        .await;
    for tool in ["register_agent", "heartbeat", "deregister_agent"] {
        let arguments = json!({"agent_id": "reader"});
        refused(&stranger, tool, arguments, "AGENT_MISMATCH", "agent_id").await;
    }
    let found = everybody(&stranger).await;
    assert_eq!(of(&found, "reader").unwrap()["liveness"], "live");
}

#[tokio::test]
async fn another_machine_or_key_does_not_take_an_id_over_while_its_lease_stands() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let registered = one
        .client(&fleet.key)
        .call("register_agent", reader())
        .await;
    let other_key = fleet.control_plane.api_key(&["reader"], false).await;
    let taken = || json!({"agent_id": "reader", "capabilities": ["mine"]});
    for thief in [
        two.client(&fleet.key),
        two.client(&other_key),
        one.client(&other_key),
    ] {
        refused(
            &thief,
            "register_agent",
            taken(),
            "AGENT_MISMATCH",
            "agent_id",
        )
        .await;
    }
    let other = one.client(&other_key);
    for tool in ["heartbeat", "deregister_agent"] {
        let arguments = json!({"agent_id": "reader"});
        refused(&other, tool, arguments, "AGENT_MISMATCH", "agent_id").await;
    }
    let found = everybody(&two.client(&fleet.seeker)).await;
    let kept = of(&found, "reader").unwrap();
    assert_eq!(kept["epoch"], registered["epoch"]);
    assert_eq!(kept["machine_id"], registered["machine_id"]);
    // once its owner lets go, another may have it
    one.client(&fleet.key)
        .call("deregister_agent", json!({"agent_id": "reader"}))
        .await;
    let moved = two.client(&other_key).call("register_agent", taken()).await;
    assert!(moved["epoch"].as_u64() > registered["epoch"].as_u64());
}

#[tokio::test]
async fn an_agent_gets_less_trust_than_operators_gave_and_never_more() {
    let fleet = Fleet::start().await;
    let edge = fleet.edge("first").await;
    let client = edge.client(&fleet.key);
    let asking = |level: u32| json!({"agent_id": "writer", "trust_level": level});
    refused(
        &client,
        "register_agent",
        asking(301),
        "TRUST_TOO_LOW",
        "trust_level",
    )
    .await;
    assert!(super::ids(&everybody(&client).await).is_empty());
    for level in [300, 0] {
        let told = client.call("register_agent", asking(level)).await;
        assert_eq!(told["trust_level"], level, "{told}");
    }
}

#[tokio::test]
async fn arguments_that_are_wrong_are_named_by_their_place() {
    let fleet = Fleet::start().await;
    let edge = fleet.edge("first").await;
    let client = edge.client(&fleet.key);
    for (name, value, field) in [
        ("capabilities", json!(["a", "b", "a b"]), "capabilities[2]"),
        ("capabilities", json!(["a", "a"]), "capabilities[1]"),
        (
            "capabilities",
            json!([{"name": "a", "colour": "red"}]),
            "capabilities[0]",
        ),
        ("endpoint", json!("http://169.254.169.254/"), "endpoint"),
        (
            "endpoint",
            json!("https://user@agents.example/"),
            "endpoint",
        ),
        ("endpoint", json!("http://10.0.0.1/mcp"), "endpoint"),
        ("labels", json!({"a b": "c"}), "labels"),
        ("labels", json!(["a"]), "labels"),
        ("trust_level", json!(1001), "trust_level"),
        ("ttl_seconds", json!(4), "ttl_seconds"),
    ] {
        let mut arguments = reader();
        arguments[name] = value;
        refused(
            &client,
            "register_agent",
            arguments,
            "INVALID_ARGUMENT",
            field,
        )
        .await;
    }
    for (name, value) in [
        ("capability", json!("a b")),
        ("zone", json!("moon")),
        ("machine_id", json!("x")),
        ("limit", json!(1001)),
        ("live_only", json!("yes")),
    ] {
        let arguments = json!({ name: value });
        refused(
            &client,
            "discover_agents",
            arguments,
            "INVALID_ARGUMENT",
            name,
        )
        .await;
    }
}
