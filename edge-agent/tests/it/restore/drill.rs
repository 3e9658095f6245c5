//! The drill: the database is lost, its backup is restored into another server,
//! and nothing that was revoked comes back.

use control_plane::{
    backup,
    config::Config,
    db::private_postgres::{Options, PrivatePostgres},
};
use reqwest::StatusCode;
use serde_json::json;

use super::{Site, becomes, granted, verdict};
use crate::{
    edge::{Edge, http, read},
    login::Client,
};

#[tokio::test]
async fn what_was_revoked_stays_revoked_and_everything_begins_anew() {
    let site = Site::start().await;
    let client = site.edge.client(&site.api_key);
    let second = Edge::start(&site.control_plane, "another").await;
    let (kept, revoked) = (granted(&client).await, granted(&client).await);
    let session = session_token(&site).await;
    assert_eq!(who_am_i(&site.edge, &session).await, StatusCode::OK);

    let files = tempfile::tempdir().unwrap();
    let directory = files.path().join("monday");
    let tell = |_: &str| {};
    let ambient = site.control_plane.app.ambient.clone();
    let (url, now) = (site.database.url().into(), ambient.clock.now());
    backup::take(&url, now, &directory, &tell).await.unwrap();

    // what happens since is lost
    client.call("revoke_token", json!({"token": revoked})).await;
    let lost = granted(&client).await;
    becomes(&client, &revoked, "bounded", "GRANT_REVOKED").await;
    let other = second.client(&site.api_key);
    becomes(&other, &lost, "bounded", "valid").await;
    let killed = second.kill().await;

    let stopped = site.control_plane.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let server = PrivatePostgres::start(Options::new(dir.path()))
        .await
        .unwrap();
    let config = with_url(stopped.config(), &server.url());
    let restored = backup::restore(&config, &ambient, &directory, &tell).await;
    let restored = restored.unwrap();
    assert_eq!(restored.fenced.grants_ended, 2, "{restored:?}");
    let stopped = stopped.configured(|config| config.database.url = server.url().into());
    let control_plane = stopped.start().await;

    // an edge that went on, and one that was dead meanwhile
    let again = killed.run_again().await;
    let other = again.client(&site.api_key);
    for (at, client) in [("this", &client), ("the other", &other)] {
        for token in [&kept, &revoked, &lost] {
            for consistency in ["bounded", "strong"] {
                becomes(client, token, consistency, "GRANT_REVOKED").await;
            }
        }
        let token = granted(client).await;
        becomes(client, &token, "bounded", "valid").await;
        becomes(client, &token, "strong", "valid").await;
        assert_eq!(
            verdict(client, &kept, "bounded").await,
            "GRANT_REVOKED",
            "{at}"
        );
    }
    assert_eq!(
        who_am_i(&site.edge, &session).await,
        StatusCode::UNAUTHORIZED
    );
    drop(control_plane);
    server.stop().await;
}

fn with_url(config: &Config, url: &str) -> Config {
    let mut config = config.clone();
    config.database.url = url.to_owned().into();
    config
}

/// A session that a client has logged in for.
async fn session_token(site: &Site) -> String {
    let told = Client::new(&site.edge, &site.api_key).log_in().await;
    told["session_token"].as_str().unwrap().to_owned()
}

async fn who_am_i(edge: &Edge, session: &str) -> StatusCode {
    let url = format!("{}/auth/session", edge.url);
    let asked = http().get(url).bearer_auth(session).send().await;
    read(asked.unwrap()).await.0
}
