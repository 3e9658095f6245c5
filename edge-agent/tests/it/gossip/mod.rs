//! Edges on addresses of their own that tell each other of their agents while the
//! control plane is away.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    edge::{Edge, Launch, RestClient},
    rig::ControlPlane,
    wait::until_async,
};

/// An edge that listens for others.
struct Talker {
    edge: Edge,
    /// `host:port` for others.
    peer: String,
    _config: TempDir,
}

impl Talker {
    /// On this loopback address, knowing these others.
    async fn start(control_plane: &ControlPlane, machine: &str, ip: &str, seeds: &[&str]) -> Self {
        let peers: Vec<_> = seeds
            .iter()
            .map(|address| format!("[[discovery.peers]]\naddress = \"{address}\""))
            .collect();
        let peers = peers.join("\n");
        let text = format!(
            "[peer]\nlisten = \"{ip}:0\"\n{peers}\n[discovery.gossip]\nenabled = true\ninterval_ms = 100\n"
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        std::fs::write(&file, text).unwrap();
        let mut launch = Launch::at(&[control_plane.url()]);
        launch.config = Some(file);
        let edge = Edge::start_with(control_plane, machine, launch).await;
        let ready: PathBuf = edge.dir.path().join("ready.json");
        let ready: Value = serde_json::from_slice(&std::fs::read(ready).unwrap()).unwrap();
        Self {
            edge,
            peer: ready["edge_peer"].as_str().unwrap().to_owned(),
            _config: dir,
        }
    }
}

async fn start_control_plane() -> ControlPlane {
    let control_plane = ControlPlane::start_with(|config| {
        config.registry.heartbeat_seconds = 1;
        config.registry.suspect_after_seconds = 3;
        config.registry.gone_after_seconds = 6;
    })
    .await;
    for (agent, trust) in [("reader", 800), ("writer", 300), ("data_analyst", 800)] {
        control_plane.agent(agent, trust).await;
    }
    control_plane
}

fn registration(agent: &str) -> Value {
    json!({"agent_id": agent, "capabilities": ["finance.invoices@1.2"]})
}

async fn discover(client: &RestClient) -> Value {
    client
        .call("discover_agents", json!({"capability": "finance.*"}))
        .await
}

/// An agent as it is found, by these of its fields.
async fn found(client: &RestClient, agent: &str, fields: [&str; 2]) -> Option<[Value; 2]> {
    let answer = discover(client).await;
    let mut agents = answer["agents"].as_array().unwrap().iter();
    let agent = agents.find(|found| found["agent_id"] == agent)?;
    Some(fields.map(|field| agent[field].clone()))
}

async fn until_found(client: &RestClient, agent: &str, source: &str, liveness: &str) {
    let wanted = [json!(source), json!(liveness)];
    until_async(&format!("{agent}: {source}, {liveness}"), async || {
        found(client, agent, ["source", "liveness"]).await.as_ref() == Some(&wanted)
    })
    .await;
}

#[tokio::test]
async fn discovery_goes_on_by_gossip_while_the_control_plane_is_away() {
    let control_plane = start_control_plane().await;
    let key = control_plane.api_key(&["reader", "writer"], false).await;
    let seeker = control_plane.api_key(&["data_analyst"], false).await;
    let first = Talker::start(&control_plane, "first", "127.0.0.2", &[]).await;
    let second = Talker::start(&control_plane, "second", "127.0.0.3", &[&first.peer]).await;
    // it knows the first only by the second
    let third = Talker::start(&control_plane, "third", "127.0.0.4", &[&second.peer]).await;
    let registering = first.edge.client(&key);
    registering
        .call("register_agent", registration("reader"))
        .await;
    let registering = third.edge.client(&key);
    registering
        .call("register_agent", registration("writer"))
        .await;
    let (near, far) = (second.edge.client(&seeker), third.edge.client(&seeker));
    for client in [&near, &far] {
        until_found(client, "reader", "central", "live").await;
        assert_eq!(discover(client).await["complete"], true);
    }

    let away = control_plane.stop().await;
    until_found(&far, "reader", "gossip", "live").await;
    until_found(&near, "reader", "gossip", "live").await;
    until_found(&near, "writer", "gossip", "live").await;
    let answer = discover(&near).await;
    assert_eq!(answer["complete"], false);
    let [age, machine] = found(&near, "reader", ["age_ms", "machine_id"])
        .await
        .unwrap();
    assert!(age.as_u64().unwrap() < 3000, "{age}");
    assert!(machine.as_str().unwrap().starts_with("mch_"));

    // an edge dies meanwhile: nobody can keep its agents alive
    let killed = third.edge.kill().await;
    until_found(&near, "writer", "gossip", "suspect").await;
    until_found(&near, "writer", "gossip", "gone").await;
    until_found(&near, "reader", "gossip", "live").await;

    let _back = away.start().await;
    until_found(&near, "reader", "central", "live").await;
    until_found(&near, "writer", "central", "gone").await;
    assert_eq!(discover(&near).await["complete"], true);
    drop(killed);
}
