//! A database that was copied back without a fence: no edge believes it.

use control_plane::{backup::fence, budgets::AsOf};
use serde_json::{Value, json};

use super::{Site, becomes, copy, granted, verdict};
use crate::{
    edge::{Edge, asking},
    wait::{until, until_async},
};

/// Whether a call is refused since the database was put back.
async fn is_refused(edge: &Edge, key: &str) -> bool {
    let client = edge.client(key);
    let (_, body) = client
        .try_call("request_permission", asking("data_analyst"))
        .await;
    let detail = body["detail"].as_str().unwrap_or_default();
    body["reason"] == "UNAVAILABLE" && detail.contains("put back without a fence")
}

#[tokio::test]
async fn a_copied_back_database_is_not_believed_until_it_is_fenced() {
    let site = Site::start().await;
    let client = site.edge.client(&site.api_key);
    let (kept, revoked) = (granted(&client).await, granted(&client).await);
    // as a copy of the disk would be
    let stopped = site.control_plane.stop().await;
    let copied = copy(&site.database).await;
    let control_plane = stopped.start().await;
    until_async("the token can be revoked", async || {
        let asked = client.try_call("revoke_token", json!({"token": revoked}));
        asked.await.0.is_success()
    })
    .await;
    becomes(&client, &revoked, "bounded", "GRANT_REVOKED").await;
    let followed = site.edge.dir.path().join("followed.json");
    until("it is remembered", || revision(&followed) == Some(3)).await;

    let stopped = control_plane.stop().await;
    let stopped = stopped.configured(|config| config.database.url = copied.clone().into());
    let control_plane = stopped.start().await;
    // what it grants until then makes it come as far as it had been
    until_async("it is refused", async || {
        is_refused(&site.edge, &site.api_key).await
    })
    .await;
    // nobody can say now, and the revoked one is not good for a moment
    becomes(&client, &kept, "bounded", "STALE").await;
    assert_eq!(verdict(&client, &kept, "strong").await, "UNAVAILABLE");
    assert_eq!(verdict(&client, &revoked, "bounded").await, "GRANT_REVOKED");
    until_async("operators hear of it", async || {
        control_plane.app.refusals.flush().await.unwrap();
        let database = sqlx::PgPool::connect(&copied).await.unwrap();
        let told: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM audit_trail WHERE subject = 'events.watch_ahead')",
        )
        .fetch_one(&database)
        .await
        .unwrap();
        database.close().await;
        told
    })
    .await;

    // an edge that starts again has not forgotten it
    let killed = site.edge.kill().await;
    let edge = killed.run_unready().await;
    until_async("it is refused again", async || {
        is_refused(&edge, &site.api_key).await
    })
    .await;

    let ambient = &control_plane.app.ambient;
    let fenced = fence::in_place(&copied, ambient, AsOf::Unknown)
        .await
        .unwrap();
    assert!(fenced.grants_ended >= 2, "{fenced:?}");
    let client = edge.client(&site.api_key);
    let token = granted(&client).await;
    becomes(&client, &token, "bounded", "valid").await;
    for token in [&kept, &revoked] {
        becomes(&client, token, "bounded", "GRANT_REVOKED").await;
        becomes(&client, token, "strong", "GRANT_REVOKED").await;
    }
}

/// How far `grants` was followed, as the file says.
fn revision(path: &std::path::Path) -> Option<u64> {
    let kept: Value = serde_json::from_slice(&std::fs::read(path).ok()?).unwrap();
    kept["followed"]["grants"]["revision"].as_u64()
}
