//! Registered at one edge, found at others.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{Fleet, everybody, ids, of, reader};

#[tokio::test]
async fn an_agent_that_registers_at_one_edge_is_found_at_two_others_within_a_tenth_of_a_second() {
    let fleet = Fleet::start().await;
    let (one, two, three) = (
        fleet.edge("first").await,
        fleet.edge("second").await,
        fleet.edge("third").await,
    );
    let at_one = one.client(&fleet.key);
    let others = [two.client(&fleet.seeker), three.client(&fleet.seeker)];
    for other in &others {
        // logged in, and connected
        assert!(ids(&everybody(other).await).is_empty());
    }
    let mut took = Vec::new();
    for round in 0..5 {
        let mut asked = reader();
        asked["labels"] = json!({ "round": round.to_string() });
        at_one.call("register_agent", asked).await;
        let begun = Instant::now();
        for other in &others {
            let query = json!({
                "capability": "finance.*",
                "labels": { "round": round.to_string() },
                "live_only": true,
            });
            let found = other.call("discover_agents", query).await;
            assert_eq!(ids(&found), ["reader"], "{found}");
        }
        took.push(begun.elapsed() / 2);
    }
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn what_was_registered_is_told_and_every_filter_holds() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let at_one = one.client(&fleet.key);
    let registered = at_one.call("register_agent", reader()).await;
    assert_eq!(registered["liveness"], "live", "{registered}");
    at_one
        .call(
            "register_agent",
            json!({"agent_id": "writer", "capabilities": ["finance.payments"], "trust_level": 200}),
        )
        .await;
    let seeker = two.client(&fleet.seeker);
    let found = everybody(&seeker).await;
    // the more trusted first
    assert_eq!(ids(&found), ["reader", "writer"], "{found}");
    assert_eq!(found["complete"], true);
    let told = of(&found, "reader").unwrap();
    assert_eq!(
        told["capabilities"],
        json!(["finance.invoices@1.2", {"name": "ocr", "attributes": {"language": "de"}}])
    );
    assert_eq!(told["endpoint"], "http://127.0.0.1:8000/mcp");
    assert_eq!(told["labels"], json!({"region": "eu"}));
    assert_eq!(
        (&told["trust_level"], &told["zone"]),
        (&json!(800), &json!("local_machine"))
    );
    assert_eq!(told["source"], "central");
    assert_eq!(told["epoch"], registered["epoch"]);
    assert_eq!(
        of(&found, "writer").unwrap()["trust_level"],
        200,
        "as it asked"
    );
    let machine = told["machine_id"].clone();
    for (query, expected) in [
        (json!({"capability": "finance.invoices"}), &["reader"][..]),
        (json!({"capability": "finance.invoices@1.*"}), &["reader"]),
        (json!({"capability": "finance.invoices@2.*"}), &[]),
        (json!({"capability": "finance.*"}), &["reader", "writer"]),
        (json!({"min_trust": 201}), &["reader"]),
        (json!({"labels": {"region": "eu"}}), &["reader"]),
        (json!({"labels": {"region": "us"}}), &[]),
        (json!({"machine_id": machine}), &["reader", "writer"]),
        (json!({"zone": "external"}), &[]),
        (json!({"live_only": true}), &["reader", "writer"]),
    ] {
        let found = seeker.call("discover_agents", query.clone()).await;
        assert_eq!(ids(&found), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_and_repetition() {
    let fleet = Fleet::start().await;
    let edge = fleet.edge("first").await;
    let agents: Vec<String> = (0..7).map(|n| format!("agent{n}")).collect();
    let names: Vec<&str> = agents.iter().map(String::as_str).collect();
    let key = fleet.control_plane.api_key(&names, false).await;
    let client = edge.client(&key);
    for agent in &agents {
        client
            .call("register_agent", json!({ "agent_id": agent }))
            .await;
    }
    let (mut seen, mut cursor) = (Vec::new(), json!(null));
    loop {
        let asked = json!({"limit": 3, "cursor": cursor});
        let page = client.call("discover_agents", asked).await;
        assert!(ids(&page).len() <= 3);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        match page.get("next_cursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    assert_eq!(seen, agents);
    for wrong in ["x", "central:x", "here:x"] {
        let (status, body) = client
            .try_call("discover_agents", json!({ "cursor": wrong }))
            .await;
        assert_eq!(
            (status.as_u16(), &body["field"]),
            (400, &json!("cursor")),
            "{body}"
        );
    }
}
