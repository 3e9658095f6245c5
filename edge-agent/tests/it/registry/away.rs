//! The control plane goes away and comes back.

use serde_json::json;

use super::{Fleet, everybody, of, reader};
use crate::wait::until_async;

#[tokio::test]
async fn without_the_control_plane_own_and_written_agents_are_found_with_source_and_age() {
    let fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    std::fs::write(
        &config,
        "[[discovery.agents]]\nagent_id = \"fallback\"\ncapabilities = [\"mail\"]\ntrust_level = 400\n\
         [[discovery.agents]]\nagent_id = \"reader\"\ncapabilities = [\"wrong\"]\n",
    )
    .unwrap();
    let one = fleet.configured("first", &config).await;
    let two = fleet.edge("second").await;
    let client = one.client(&fleet.key);
    client.call("register_agent", reader()).await;
    two.client(&fleet.key)
        .call("register_agent", json!({"agent_id": "writer"}))
        .await;

    // the control plane's word wins, and what it does not know is added
    let found = everybody(&client).await;
    assert_eq!(found["complete"], true);
    assert_eq!(
        super::ids(&found),
        ["reader", "writer", "fallback"],
        "{found}"
    );
    assert_eq!(of(&found, "reader").unwrap()["source"], "central");
    assert_eq!(of(&found, "fallback").unwrap()["source"], "static");

    let Fleet { control_plane, .. } = fleet;
    let stopped = control_plane.stop().await;
    until_async("the edge tells what it knows", async || {
        everybody(&client).await["complete"] == false
    })
    .await;
    let found = everybody(&client).await;
    let sources = found["sources"].as_array().unwrap();
    let central = sources.iter().find(|one| one["source"] == "central");
    let central = central.unwrap();
    assert_eq!(
        (&central["available"], &central["reason"]),
        (&json!(false), &json!("UNAVAILABLE"))
    );
    let own = of(&found, "reader").unwrap();
    assert_eq!(
        (&own["source"], &own["liveness"]),
        (&json!("local"), &json!("live"))
    );
    assert_eq!(
        own["capabilities"][0], "finance.invoices@1.2",
        "what it registered"
    );
    assert!(own["age_ms"].as_u64().unwrap() < 90_000, "{own}");
    let written = of(&found, "fallback").unwrap();
    assert_eq!(
        (&written["source"], &written["trust_level"]),
        (&json!("static"), &json!(400))
    );
    assert!(written["age_ms"].as_u64().unwrap() > 0, "{written}");
    assert!(
        of(&found, "writer").is_none(),
        "nobody here has heard of it"
    );
    let capable = client
        .call("discover_agents", json!({"capability": "finance.*"}))
        .await;
    assert_eq!(super::ids(&capable), ["reader"]);
    // signs of life are taken without it
    client
        .call("heartbeat", json!({"agent_id": "reader"}))
        .await;

    let _control_plane = stopped.start().await;
    until_async("the registry is asked again", async || {
        let found = everybody(&client).await;
        let writer = of(&found, "writer").is_some_and(|writer| writer["source"] == "central");
        found["complete"] == true && writer
    })
    .await;
}

#[tokio::test]
async fn pages_that_began_without_the_control_plane_go_on_without_it() {
    let fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    let written = |n: u32| format!("[[discovery.agents]]\nagent_id = \"written{n}\"\n");
    std::fs::write(&config, (0..4).map(written).collect::<String>()).unwrap();
    let edge = fleet.configured("first", &config).await;
    let client = edge.client(&fleet.key);
    client.call("register_agent", reader()).await;
    let page = |cursor: serde_json::Value| {
        client.call("discover_agents", json!({"limit": 3, "cursor": cursor}))
    };
    // with it: those of the registry, then the others, page by page
    let first = page(json!(null)).await;
    assert_eq!(super::ids(&first), ["reader", "written0", "written1"]);
    let second = page(first["next_cursor"].clone()).await;
    assert_eq!(super::ids(&second), ["written2", "written3"]);
    assert_eq!(second.get("next_cursor"), None);

    let Fleet { control_plane, .. } = fleet;
    let stopped = control_plane.stop().await;
    until_async("the edge tells what it knows", async || {
        everybody(&client).await["complete"] == false
    })
    .await;
    let first = page(json!(null)).await;
    assert_eq!(super::ids(&first), ["reader", "written0", "written1"]);
    let _control_plane = stopped.start().await;
    until_async("the registry is asked again", async || {
        everybody(&client).await["complete"] == true
    })
    .await;
    let second = page(first["next_cursor"].clone()).await;
    assert_eq!(super::ids(&second), ["written2", "written3"]);
    assert_eq!(
        second["complete"], false,
        "what the registry knows was not told"
    );
}
