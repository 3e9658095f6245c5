//! Agents that register at one edge and are found at others.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    edge::{Edge, Launch, RestClient},
    rig::ControlPlane,
    wait::until_async,
};

mod away;
mod command_line;
mod found;
mod life;
mod owners;
mod reload;
mod telling;

/// How soon a silent edge is judged in these tests.
const SUSPECT_AFTER: Duration = Duration::from_secs(3);
const GONE_AFTER: Duration = Duration::from_secs(6);

/// A control plane that judges edges soon, with agents and a key for them.
struct Fleet {
    control_plane: ControlPlane,
    /// For `reader` and `writer`, with trust 800 and 300.
    key: String,
    /// For `data_analyst`, who looks for others.
    seeker: String,
}

impl Fleet {
    async fn start() -> Self {
        let control_plane = ControlPlane::start_with(|config| {
            config.registry.heartbeat_seconds = 1;
            config.registry.suspect_after_seconds = 3;
            config.registry.gone_after_seconds = 6;
        })
        .await;
        for (agent, trust) in [("reader", 800), ("writer", 300), ("data_analyst", 800)] {
            control_plane.agent(agent, trust).await;
        }
        let key = control_plane.api_key(&["reader", "writer"], false).await;
        let seeker = control_plane.api_key(&["data_analyst"], false).await;
        Self {
            control_plane,
            key,
            seeker,
        }
    }

    async fn edge(&self, machine: &str) -> Edge {
        Edge::start(&self.control_plane, machine).await
    }

    /// An edge with a configuration file.
    async fn configured(&self, machine: &str, config: &std::path::Path) -> Edge {
        let mut launch = Launch::at(&[self.control_plane.url()]);
        launch.config = Some(config.to_owned());
        Edge::start_with(&self.control_plane, machine, launch).await
    }
}

/// What `reader` says of itself.
fn reader() -> Value {
    json!({
        "agent_id": "reader",
        "capabilities": ["finance.invoices@1.2", {"name": "ocr", "attributes": {"language": "de"}}],
        "endpoint": "http://127.0.0.1:8000/mcp",
        "labels": {"region": "eu"},
    })
}

/// The ids of those that are found.
fn ids(found: &Value) -> Vec<&str> {
    let agents = found["agents"].as_array().unwrap().iter();
    agents
        .map(|agent| agent["agent_id"].as_str().unwrap())
        .collect()
}

/// One of those that are found.
fn of<'a>(found: &'a Value, agent: &str) -> Option<&'a Value> {
    let agents = found["agents"].as_array().unwrap().iter();
    agents.into_iter().find(|found| found["agent_id"] == agent)
}

async fn everybody(client: &RestClient) -> Value {
    client.call("discover_agents", json!({})).await
}

/// The liveness that an agent is found with; `None`: it is not found.
async fn liveness(client: &RestClient, agent: &str) -> Option<String> {
    let found = everybody(client).await;
    of(&found, agent).map(|agent| agent["liveness"].as_str().unwrap().to_owned())
}

async fn until_it_is(client: &RestClient, agent: &str, expected: &str) {
    until_async(&format!("{agent} is {expected}"), async || {
        liveness(client, agent).await.as_deref() == Some(expected)
    })
    .await;
}
