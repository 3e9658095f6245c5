//! The control plane goes away and comes back.

use serde_json::json;

use crate::{
    edge::{Edge, Launch, asking},
    rig::{ControlPlane, Rig},
    wait::until_async,
};

#[tokio::test]
async fn without_the_control_plane_calls_are_unavailable_and_afterwards_work_again() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let (granted, token) = client.granted().await;
    let stopped = rig.control_plane.stop().await;
    let refusal = client
        .refusal("revoke_token", json!({"token": token}))
        .await;
    assert!(
        ["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&refusal.as_str()),
        "{refusal}"
    );

    let _control_plane = stopped.start().await;
    until_async("the edge has found back", async || {
        client
            .try_call(
                "permission_status",
                json!({"grant_id": granted["grant_id"]}),
            )
            .await
            .0
            .is_success()
    })
    .await;
    assert_eq!(client.validate(&token).await["valid"], true);
}

#[tokio::test]
async fn a_call_that_meets_a_restart_is_repeated_with_its_request_id() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    client.granted().await;
    let mut ask = asking("data_analyst");
    ask["request_id"] = json!("across-a-restart");
    let control_plane = rig.control_plane.restart().await;
    let first = loop {
        let (status, body) = client.try_call("request_permission", ask.clone()).await;
        if status.is_success() {
            break body;
        }
        assert!(
            ["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&body["reason"].as_str().unwrap()),
            "{body}"
        );
    };
    let second = client.call("request_permission", ask).await;
    assert_eq!(first["grant_id"], second["grant_id"]);
    drop(control_plane);
}

#[tokio::test]
async fn a_killed_edge_comes_back_with_its_identity_and_forgets_nothing_that_was_acknowledged() {
    let rig = Rig::start().await;
    let (granted, token) = rig.edge.client(&rig.api_key).granted().await;
    let edge = rig.edge.kill_and_run().await;
    let client = edge.client(&rig.api_key);
    assert_eq!(
        client.validate(&token).await["grant_id"],
        granted["grant_id"]
    );
    client.call("revoke_token", json!({"token": token})).await;
    assert_eq!(client.validate(&token).await["reason"], "GRANT_REVOKED");
}

#[tokio::test]
async fn an_edge_leaves_a_control_plane_that_has_lost_its_database() {
    let control_plane = ControlPlane::start().await;
    let other = control_plane.beside().await;
    control_plane.agent("data_analyst", 800).await;
    let key = control_plane.api_key(&["data_analyst"], false).await;
    let servers = [control_plane.url(), other.url()];
    let edge = Edge::start_with(&control_plane, "host", Launch::at(&servers)).await;
    let client = edge.client(&key);
    client.granted().await;
    control_plane.app.db.pools.close().await;
    until_async("another control plane answers", async || {
        let asked = client.try_call("request_permission", asking("data_analyst"));
        asked.await.0.is_success()
    })
    .await;
}
