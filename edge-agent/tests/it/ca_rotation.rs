//! Another CA takes over, and edges follow it, however long they were away.

use authguardian_proto::credential::sha256;
use base64::{Engine, engine::general_purpose::STANDARD};
use control_plane::audit::Context;
use serde_json::Value;

use crate::{
    edge::{Edge, content},
    rig::ControlPlane,
    wait::{until, until_async},
};

#[tokio::test]
async fn an_edge_renews_soon_under_the_next_ca_also_when_it_slept_through_two_of_them() {
    let control_plane = renewing_soon().await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = Edge::start(&control_plane, "host").await;
    let first = active(&control_plane);
    assert_eq!(issuer(&edge), first);

    control_plane.rotate_ca().await;
    is_of_the_active_ca(&edge, &control_plane).await;
    assert_eq!(trusted(&edge).len(), 2, "the old one's certificates count");
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);

    let edge = edge.kill().await;
    for _ in 0..2 {
        control_plane.rotate_ca().await;
    }
    let edge = edge.run_again().await;
    is_of_the_active_ca(&edge, &control_plane).await;
    until("it trusts all that count", || trusted(&edge).len() == 4).await;
    assert_ne!(active(&control_plane), first);
    assert_eq!(edge.client(&api_key).granted().await.0["score"], 570);
}

#[tokio::test]
async fn a_join_token_from_before_a_rotation_is_good() {
    let control_plane = renewing_soon().await;
    let token = control_plane.join_token("host").await;
    let first = active(&control_plane);
    control_plane.rotate_ca().await;
    let edge = Edge::join(&control_plane, &token).await;
    assert_ne!(issuer(&edge), first);
    assert_eq!(issuer(&edge), active(&control_plane));
}

#[tokio::test]
async fn an_edge_of_a_ca_that_was_dropped_has_to_join_again() {
    let control_plane = renewing_soon().await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = Edge::start(&control_plane, "host").await;
    let (_, token) = edge.client(&api_key).granted().await;
    // at once, so that it can neither renew nor learn whom to trust
    let edge = edge.kill().await;
    let retired = control_plane.rotate_ca().await;
    let identity = &control_plane.app.identity;
    let dropped = identity.retire_signing_key(Context::system(), retired.id, true);
    dropped.await.unwrap();
    let edge = edge.run_unready().await;
    let client = edge.client(&api_key);
    until_async("it has found out", async || {
        let question = serde_json::json!({"token": token, "agent_id": "data_analyst", "resource_type": "SAP_API"});
        let (_, body) = client.try_call("validate_token", question).await;
        ["UNAVAILABLE", "STALE"].contains(&body["reason"].as_str().unwrap_or_default())
    })
    .await;
    assert_ne!(issuer(&edge), active(&control_plane));

    let again = Edge::start(&control_plane, "host-again").await;
    assert_eq!(again.client(&api_key).granted().await.0["score"], 570);
}

/// Certificates that live long enough for a test, and short enough for edges to
/// renew within seconds when the CA is another one.
async fn renewing_soon() -> ControlPlane {
    let control_plane =
        ControlPlane::start_with(|config| config.identity.certificate_ttl_seconds = 600).await;
    control_plane.agent("data_analyst", 800).await;
    control_plane
}

/// Waits until the edge's certificate is of the CA that is active now.
pub(crate) async fn is_of_the_active_ca(edge: &Edge, control_plane: &ControlPlane) {
    until("its certificate is of the active CA", || {
        issuer(edge) == active(control_plane)
    })
    .await;
}

fn active(control_plane: &ControlPlane) -> [u8; 32] {
    control_plane.app.identity.keyring().ca().fingerprint()
}

/// Who has issued its certificate.
fn issuer(edge: &Edge) -> [u8; 32] {
    *stored(edge, "chain").last().unwrap()
}

/// Whom it trusts.
fn trusted(edge: &Edge) -> Vec<[u8; 32]> {
    stored(edge, "authorities")
}

fn stored(edge: &Edge, name: &str) -> Vec<[u8; 32]> {
    let record: Value = serde_json::from_slice(&content(&edge.identity())).unwrap();
    let certificates = record[name].as_array().unwrap().iter();
    certificates
        .map(|text| sha256(&STANDARD.decode(text.as_str().unwrap()).unwrap()))
        .collect()
}
