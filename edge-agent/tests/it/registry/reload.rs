//! What SIGHUP changes.

use super::{Fleet, everybody, of, reader};
use crate::{
    edge::{Edge, Launch},
    rig::ControlPlane,
    wait::until_async,
};

#[tokio::test]
async fn a_hangup_changes_the_written_agents_and_a_wrong_file_changes_nothing() {
    let fleet = Fleet::start().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    let write = |agent: &str| {
        std::fs::write(
            &config,
            format!("[[discovery.agents]]\nagent_id = \"{agent}\"\n"),
        )
        .unwrap();
    };
    write("before");
    let edge = fleet.configured("first", &config).await;
    let client = edge.client(&fleet.seeker);
    assert!(of(&everybody(&client).await, "before").is_some());
    write("after");
    edge.hang_up();
    until_async("the other one is found", async || {
        of(&everybody(&client).await, "after").is_some()
    })
    .await;
    assert!(of(&everybody(&client).await, "before").is_none());
    std::fs::write(&config, "[[discovery.agents]]\nagent_id = \"\"\n").unwrap();
    edge.hang_up();
    write("last");
    edge.hang_up();
    until_async("the last one is found", async || {
        of(&everybody(&client).await, "last").is_some()
    })
    .await;
}

#[tokio::test]
async fn a_hangup_moves_an_edge_to_another_control_plane_of_the_same_database() {
    let fleet = Fleet::start().await;
    let second = fleet.control_plane.beside().await;
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("edge.toml");
    let write = |url: &str| {
        std::fs::write(&config, format!("server.addresses = [\"{url}\"]\n")).unwrap();
    };
    write(&fleet.control_plane.url());
    let launch = Launch {
        config: Some(config.clone()),
        ..Launch::default()
    };
    let edge = Edge::start_with(&fleet.control_plane, "first", launch).await;
    let client = edge.client(&fleet.key);
    client.call("register_agent", reader()).await;
    let asked = |of: &ControlPlane| of.calls("registry.v1.RegistryService/DiscoverAgents");
    assert_eq!(asked(&second), 0);
    write(&second.url());
    edge.hang_up();
    until_async("the second one is asked", async || {
        everybody(&client).await;
        asked(&second) > 0
    })
    .await;
    let Fleet { control_plane, .. } = fleet;
    control_plane.stop().await;
    let found = everybody(&client).await;
    assert_eq!(found["complete"], true, "{found}");
    assert!(of(&found, "reader").is_some());
}
