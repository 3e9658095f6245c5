//! What the audit log has of calls that ended at the edge.

use control_plane::audit::{Record, Tail};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    edge::{asking, http},
    rig::{ControlPlane, Rig},
    wait::DEADLINE,
};

/// Reads the log until so many calls of an action and reason stand in it, and
/// returns their entries.
pub(crate) async fn entries(
    control_plane: &ControlPlane,
    (action, reason): (&str, &str),
    calls: i64,
) -> Vec<Record> {
    let mut tail = Tail::begin(control_plane.app.db.clone(), 10_000)
        .await
        .unwrap();
    let mut found = Vec::new();
    let reading = async {
        while found.iter().map(|entry: &Record| entry.count).sum::<i64>() < calls {
            let read = tail.read().await.unwrap();
            found.extend(read.into_iter().filter(|entry| {
                entry.action == action && entry.reason.as_deref().unwrap_or_default() == reason
            }));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let told = tokio::time::timeout(DEADLINE, reading).await;
    assert!(told.is_ok(), "{action} {reason}: {found:#?}");
    found
}

#[tokio::test]
async fn what_the_guard_refuses_stands_in_the_audit_log_equal_ones_as_one() {
    let rig = Rig::start().await;
    let url = format!("{}/mcp/tools/revoke_token", rig.edge.url);
    for _ in 0..20 {
        let refused = http().post(&url).json(&json!({})).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    let nobody = entries(
        &rig.control_plane,
        ("tool.revoke_token", "UNAUTHENTICATED"),
        20,
    )
    .await;
    assert_eq!(nobody.iter().map(|entry| entry.count).sum::<i64>(), 20);
    assert!(nobody.len() < 20, "{nobody:#?}");
    for entry in &nobody {
        assert_eq!(
            (entry.caller.as_str(), entry.outcome.as_str()),
            ("anonymous", "refused")
        );
        assert_eq!(entry.peer_address.as_deref(), Some("127.0.0.1"));
        assert_eq!(entry.zone.as_deref(), Some("local_machine"));
        assert!(entry.machine_id.is_some());
    }

    let id = rig.api_key.rsplit_once('_').unwrap().0;
    let wrong = format!("{id}_0000000000000000000000000000000000000000001");
    let refused = rig
        .edge
        .client(&wrong)
        .refusal("revoke_token", json!({"token": "x"}))
        .await;
    assert_eq!(refused, "SIGNATURE_INVALID");
    let named = entries(
        &rig.control_plane,
        ("tool.revoke_token", "SIGNATURE_INVALID"),
        1,
    )
    .await;
    assert_eq!(named[0].subject, id.replace("agk_", "apk_"));
    assert_eq!(named[0].key_id, None, "it was not proved");

    let foreign = http()
        .post(&url)
        .header("origin", "https://evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    entries(
        &rig.control_plane,
        ("tool.revoke_token", "ORIGIN_NOT_ALLOWED"),
        1,
    )
    .await;
}

#[tokio::test]
async fn a_call_for_a_foreign_agent_is_told_with_its_key() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    assert_eq!(
        client
            .refusal("request_permission", asking("orchestrator"))
            .await,
        "AGENT_MISMATCH"
    );
    let told = entries(
        &rig.control_plane,
        ("tool.request_permission", "AGENT_MISMATCH"),
        1,
    )
    .await;
    assert!(told[0].caller.starts_with("api_key:apk_"), "{told:#?}");
    assert_eq!(told[0].subject, "orchestrator");
}

#[tokio::test]
async fn what_was_refused_while_the_control_plane_was_away_is_told_once_it_is_back() {
    let rig = Rig::start().await;
    let url = format!("{}/mcp/tools/revoke_token", rig.edge.url);
    let stopped = rig.control_plane.stop().await;
    for _ in 0..5 {
        let refused = http().post(&url).json(&json!({})).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    let back = stopped.start().await;
    let told = entries(&back, ("tool.revoke_token", "UNAUTHENTICATED"), 5).await;
    assert_eq!(told.iter().map(|entry| entry.count).sum::<i64>(), 5);
}
