//! Live, suspect, gone, and what does not come back.

use serde_json::json;
use tokio::time::Instant;

use super::{Fleet, GONE_AFTER, SUSPECT_AFTER, everybody, liveness, of, reader, until_it_is};
use crate::wait::until_async;

#[tokio::test]
async fn the_agents_of_a_killed_edge_are_suspect_and_then_gone_at_the_configured_times() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    one.client(&fleet.key)
        .call("register_agent", reader())
        .await;
    let seeker = two.client(&fleet.seeker);
    assert_eq!(liveness(&seeker, "reader").await.as_deref(), Some("live"));
    let killed = one.kill().await;
    let killed_at = Instant::now();
    until_it_is(&seeker, "reader", "suspect").await;
    let suspect = killed_at.elapsed();
    until_it_is(&seeker, "reader", "gone").await;
    let gone = killed_at.elapsed();
    // the last heartbeat was up to one second before
    let heartbeat = std::time::Duration::from_secs(1);
    assert!(suspect + heartbeat * 2 >= SUSPECT_AFTER, "{suspect:?}");
    assert!(suspect < GONE_AFTER, "{suspect:?}");
    assert!(gone + heartbeat * 2 >= GONE_AFTER, "{gone:?}");
    assert!(gone < GONE_AFTER + heartbeat * 5, "{gone:?}");
    // it comes back with what it had
    let edge = killed.run_again().await;
    until_it_is(&seeker, "reader", "live").await;
    drop(edge);
}

#[tokio::test]
async fn a_restarted_edge_keeps_its_agents_and_one_that_ends_says_so() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let registered = one
        .client(&fleet.key)
        .call("register_agent", reader())
        .await;
    let seeker = two.client(&fleet.seeker);
    let began = Instant::now();
    one.ask_to_end();
    until_it_is(&seeker, "reader", "suspect").await;
    assert!(
        began.elapsed() < SUSPECT_AFTER,
        "by its last word, {:?}",
        began.elapsed()
    );
    let one = one.kill().await.run_again().await;
    until_it_is(&seeker, "reader", "live").await;
    let found = everybody(&seeker).await;
    assert_eq!(of(&found, "reader").unwrap()["epoch"], registered["epoch"]);
    let beat = json!({"agent_id": "reader"});
    let told = one.client(&fleet.key).call("heartbeat", beat).await;
    assert_eq!(told["epoch"], registered["epoch"]);
}

#[tokio::test]
async fn an_agent_without_signs_of_life_is_suspect_and_any_call_for_it_brings_it_back() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let client = one.client(&fleet.key);
    let mut asked = reader();
    asked["ttl_seconds"] = json!(5);
    client.call("register_agent", asked).await;
    let seeker = two.client(&fleet.seeker);
    until_it_is(&seeker, "reader", "suspect").await;
    let found = seeker
        .call("discover_agents", json!({"live_only": true}))
        .await;
    assert!(of(&found, "reader").is_none(), "{found}");
    client
        .call("heartbeat", json!({"agent_id": "reader"}))
        .await;
    until_it_is(&seeker, "reader", "live").await;
    until_it_is(&seeker, "reader", "suspect").await;
    let mut ask = crate::edge::asking("reader");
    ask["scope"] = json!("read:invoices");
    client.call("request_permission", ask).await;
    until_it_is(&seeker, "reader", "live").await;
}

#[tokio::test]
async fn what_was_deregistered_does_not_come_back_by_heartbeats() {
    let fleet = Fleet::start().await;
    let (one, two) = (fleet.edge("first").await, fleet.edge("second").await);
    let client = one.client(&fleet.key);
    client.call("register_agent", reader()).await;
    client
        .call("register_agent", json!({"agent_id": "writer"}))
        .await;
    let ended = client
        .call("deregister_agent", json!({"agent_id": "reader"}))
        .await;
    assert_eq!(ended["agent_id"], "reader");
    let beat = json!({"agent_id": "reader"});
    assert_eq!(
        client.refusal("heartbeat", beat.clone()).await,
        "UNKNOWN_AGENT"
    );
    assert_eq!(
        client.refusal("deregister_agent", beat).await,
        "UNKNOWN_AGENT"
    );
    let seeker = two.client(&fleet.seeker);
    // until the edge has vouched for its agents again, with a heartbeat that is after it
    let seen = |found: &serde_json::Value| of(found, "writer").unwrap()["last_seen"].clone();
    let before = everybody(&seeker).await;
    assert!(of(&before, "reader").is_none(), "{before}");
    until_async("its edge was heard again", async || {
        let found = everybody(&seeker).await;
        assert!(of(&found, "reader").is_none(), "{found}");
        seen(&found) != seen(&before)
    })
    .await;
    assert!(of(&everybody(&seeker).await, "reader").is_none());
}
