//! The edge's listeners: who gets in, how far it is trusted, and how much it
//! may take.

pub(crate) mod events;
mod hostile;
mod limits;
mod off;
mod paused;
mod push;
mod same;
mod socket;
pub(crate) mod speaker;
mod sse;
mod tls;
mod websocket;
mod zones;

use std::ffi::OsString;

use crate::{
    edge::{Edge, Launch},
    rig::{ControlPlane, Rig},
};

/// A control plane with `data_analyst` (trust 800), and an edge that is
/// configured by these variables.
async fn rig(environment: &[(&'static str, &str)]) -> Rig {
    let control_plane = ControlPlane::start().await;
    control_plane.agent("data_analyst", 800).await;
    control_plane.agent("orchestrator", 900).await;
    let api_key = control_plane.api_key(&["data_analyst"], false).await;
    let edge = edge(&control_plane, "host", environment).await;
    Rig {
        control_plane,
        edge,
        api_key,
    }
}

async fn edge(
    control_plane: &ControlPlane,
    machine: &str,
    environment: &[(&'static str, &str)],
) -> Edge {
    let mut launch = Launch::at(&[control_plane.url()]);
    launch.environment = environment
        .iter()
        .map(|(name, value)| (*name, OsString::from(value)))
        .collect();
    Edge::start_with(control_plane, machine, launch).await
}
