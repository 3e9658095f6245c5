//! One key at one edge: what its limits do to a call over each face.

use std::time::Duration;

use authguardian_proto::{
    network::Networks,
    rate::{RateLimit, RateLimits},
    reason::Reason,
};
use control_plane::{audit::Context, identity::api_key::KeyChanges};
use futures::future::join_all;
use reqwest::header;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Tally, of_all, of_tool};
use crate::{
    audit::entries,
    edge::{asking, http, read},
    rig::Rig,
    wait::until_async,
};

#[tokio::test]
async fn a_key_used_too_often_is_told_when_to_try_again_by_every_face_and_that_is_audited() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .limited_key(&["data_analyst"], of_all("1/3"), Networks::default())
        .await;
    let client = rig.edge.client(&key);
    let tally = Tally::default();
    for _ in 0..30 {
        tally.call(&client).await;
    }
    assert!((3..10).contains(&tally.passed()), "{}", tally.passed());

    // over MCP, a tool call that fails; the bucket may have a call again meanwhile
    let refused = async || -> Value {
        loop {
            let call = http()
                .post(format!("{}/mcp", rig.edge.url))
                .header(header::ACCEPT, "application/json, text/event-stream")
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", "tools/call")
                .header("mcp-name", "validate_token")
                .bearer_auth(&key)
                .json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
                    "name": "validate_token",
                    "arguments": {"token": "x", "agent_id": "data_analyst", "resource_type": "SAP_API"},
                    "_meta": {
                        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                        "io.modelcontextprotocol/clientCapabilities": {},
                    },
                }}))
                .send();
            let (status, answer) = read(call.await.unwrap()).await;
            assert!(status.is_success(), "{answer}");
            if answer["result"]["isError"] == true {
                return answer;
            }
        }
    };
    let answer = refused().await;
    let told = &answer["result"]["structuredContent"];
    assert_eq!(told["reason"], "RATE_LIMITED", "{answer}");
    assert!(
        told["retry_after_seconds"]
            .as_u64()
            .is_some_and(|wait| wait >= 1)
    );

    // over REST, also for what is forwarded, and for resources
    loop {
        let (status, body) = client
            .try_call("request_permission", asking("data_analyst"))
            .await;
        if status.as_u16() == 429 {
            assert_eq!(body["reason"], "RATE_LIMITED");
            assert!(
                body["retry_after_seconds"]
                    .as_u64()
                    .is_some_and(|wait| wait >= 1)
            );
            break;
        }
    }
    loop {
        let url = format!("{}/mcp/resources/grants://active", rig.edge.url);
        let (status, body) = read(http().get(url).bearer_auth(&key).send().await.unwrap()).await;
        if status.as_u16() == 429 {
            assert_eq!(body["reason"], "RATE_LIMITED");
            break;
        }
    }

    let calls = i64::try_from(tally.limited()).unwrap();
    let told = entries(
        &rig.control_plane,
        ("tool.validate_token", "RATE_LIMITED"),
        calls,
    )
    .await;
    assert!(
        told.iter()
            .all(|entry| entry.key_id == Some(id.to_string())),
        "{told:#?}"
    );
    assert!(
        told.len() < 15,
        "equal ones are one entry with a count: {told:#?}"
    );
}

#[tokio::test]
async fn a_limit_of_one_tool_holds_for_no_other() {
    let rig = Rig::start().await;
    let limits = of_tool("validate_token", "1/2");
    let (_, key) = rig
        .control_plane
        .limited_key(&["data_analyst"], limits, Networks::default())
        .await;
    let client = rig.edge.client(&key);
    let tally = Tally::default();
    for _ in 0..20 {
        tally.call(&client).await;
    }
    assert!((2..8).contains(&tally.passed()), "{}", tally.passed());
    for _ in 0..20 {
        client
            .call("request_permission", asking("data_analyst"))
            .await;
    }
}

#[tokio::test]
async fn a_changed_limit_holds_at_once_and_a_removed_one_no_more() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .limited_key(&["data_analyst"], of_all("1/1"), Networks::default())
        .await;
    let client = rig.edge.client(&key);
    let tally = Tally::default();
    for _ in 0..10 {
        tally.call(&client).await;
    }
    assert!(tally.limited() > 0);
    let change = async |limit: Option<RateLimit>| {
        let changes = KeyChanges {
            rate_limit: Some(limit),
            ..KeyChanges::default()
        };
        let identity = &rig.control_plane.app.identity;
        let updating = identity.update_api_key(Context::system(), id, changes);
        assert_eq!(updating.await.unwrap().rate_limits.all, limit);
    };
    let hundred_pass = async || {
        let tally = Tally::default();
        for _ in 0..100 {
            tally.call(&client).await;
        }
        tally.limited() == 0
    };
    change(None).await;
    until_async("nothing is limited", hundred_pass).await;
    change(Some("1/1".parse().unwrap())).await;
    until_async("calls are limited again", async || !hundred_pass().await).await;

    rig.control_plane.revoke_api_key(id).await;
    let identity = &rig.control_plane.app.identity;
    let changes = KeyChanges {
        rate_limit: Some(None),
        ..KeyChanges::default()
    };
    let late = identity.update_api_key(Context::system(), id, changes);
    assert_eq!(late.await.unwrap_err().reason(), Reason::ApiKeyRevoked);
}

#[tokio::test]
async fn without_the_control_plane_a_limited_key_ends_in_a_trickle() {
    let rig = Rig::start().await;
    let limits = RateLimits {
        all: Some("200/1000".parse().unwrap()),
        ..RateLimits::default()
    };
    let (_, key) = rig
        .control_plane
        .limited_key(&["data_analyst"], limits, Networks::default())
        .await;
    let client = rig.edge.client(&key);
    let tally = Tally::default();
    assert!(tally.call(&client).await);
    let _stopped = rig.control_plane.stop().await;
    // each call may wait for the control plane first, so they come together
    let round = async || {
        let tally = Tally::default();
        join_all((0..30).map(|_| tally.call(&client))).await;
        tally.passed()
    };
    until_async("the lease has ended", async || round().await <= 2).await;
    let (mut passed, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(4) {
        passed += round().await;
    }
    let seconds = began.elapsed().as_secs();
    assert!(passed <= seconds + 2, "{passed} in {seconds} s");
    assert!(passed >= 1, "none in {seconds} s");
}
