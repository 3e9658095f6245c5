//! Where a key may be used from.

use authguardian_proto::{network::Networks, rate::RateLimits};
use control_plane::{audit::Context, identity::api_key::KeyChanges};
use serde_json::json;

use crate::{audit::entries, edge::asking, rig::Rig, wait::until_async};

fn networks(texts: &[&str]) -> Networks {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_key_is_refused_beyond_its_networks_and_that_is_audited() {
    let rig = Rig::start().await;
    let limited = async |allowed: &[&str]| {
        let made = rig.control_plane.limited_key(
            &["data_analyst"],
            RateLimits::default(),
            networks(allowed),
        );
        made.await
    };
    let (_, key) = limited(&["10.0.0.0/8", "127.0.0.0/8"]).await;
    let client = rig.edge.client(&key);
    client
        .call("request_permission", asking("data_analyst"))
        .await;

    let (id, key) = limited(&["10.0.0.0/8", "2001:db8::/32"]).await;
    let client = rig.edge.client(&key);
    let refused = async || {
        let (status, body) = client.try_call("revoke_token", json!({"token": "x"})).await;
        (
            status.as_u16(),
            body["reason"].as_str().unwrap_or_default().to_owned(),
        )
    };
    for _ in 0..3 {
        assert_eq!(refused().await, (403, "ADDRESS_NOT_ALLOWED".to_owned()));
    }
    let told = entries(
        &rig.control_plane,
        ("tool.revoke_token", "ADDRESS_NOT_ALLOWED"),
        3,
    )
    .await;
    for entry in &told {
        assert_eq!(
            entry.peer_address.as_deref(),
            Some("127.0.0.1"),
            "{entry:?}"
        );
        assert_eq!(entry.outcome, "refused");
    }

    let changes = KeyChanges {
        allowed_networks: Some(Networks::default()),
        ..KeyChanges::default()
    };
    let identity = &rig.control_plane.app.identity;
    identity
        .update_api_key(Context::system(), id, changes)
        .await
        .unwrap();
    until_async("the key may be used from anywhere", async || {
        refused().await.1 == "TOKEN_INVALID"
    })
    .await;
}
