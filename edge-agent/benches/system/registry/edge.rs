//! Edges that do nothing but be there.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use authguardian_proto::registry::v1::{
    BeginEdgeRequest, HeartbeatRequest, registry_service_client::RegistryServiceClient,
};
use edge_agent::{
    dial::{self, Channel, ServerAddress},
    identity::{self, Store},
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::{load::Client, system::System};

/// How often each is heard.
const EVERY: Duration = Duration::from_secs(5);
/// Joining and beginning, so many at a time.
const AT_A_TIME: usize = 32;

/// A machine that has joined, and holds its lease.
#[derive(Clone)]
pub(super) struct SimulatedEdge {
    pub(super) channel: Channel,
    client: RegistryServiceClient<Channel>,
    incarnation: u64,
    sequence: u64,
}

/// So many machines join and begin.
pub(super) async fn join_all(system: &mut System, count: usize) -> Result<Vec<SimulatedEdge>> {
    let server = system.control_plane.server()?;
    let mut tokens = Vec::new();
    for _ in 0..count {
        tokens.push(system.join_token()?);
    }
    let joining = tokens.into_iter().map(|token| join(&server, token));
    stream::iter(joining)
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

async fn join(server: &ServerAddress, token: String) -> Result<SimulatedEdge> {
    let dir = tempfile::tempdir()?;
    let identity = identity::join(&Store::open(dir.path())?, server, &token.parse()?).await?;
    let tls = Arc::new(ArcSwap::from_pointee(identity.tls()?));
    let channel = dial::channel(std::slice::from_ref(server), tls);
    let mut edge = SimulatedEdge {
        client: RegistryServiceClient::new(channel.clone()),
        channel,
        incarnation: 0,
        sequence: 0,
    };
    edge.begin().await?;
    Ok(edge)
}

/// All begin anew.
pub(super) async fn begin_all(edges: &mut [SimulatedEdge]) -> Result<()> {
    stream::iter(edges.iter_mut().map(SimulatedEdge::begin))
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

/// A heartbeat of each, spread over the time between two.
pub(super) async fn beat_evenly(edges: &mut [SimulatedEdge]) -> Result<()> {
    let began = Instant::now();
    let share = EVERY / u32::try_from(edges.len()).context("fewer edges")?;
    let beats = edges.iter_mut().zip(0..).map(|(edge, number)| async move {
        tokio::time::sleep_until(began + share * number).await;
        edge.call().await
    });
    futures::future::try_join_all(beats).await?;
    tokio::time::sleep_until(began + EVERY).await;
    Ok(())
}

impl SimulatedEdge {
    async fn begin(&mut self) -> Result<()> {
        let begun = self.client.begin_edge(BeginEdgeRequest::default()).await?;
        self.incarnation = begun.into_inner().incarnation;
        self.sequence = 0;
        Ok(())
    }
}

impl Client for SimulatedEdge {
    async fn call(&mut self) -> Result<()> {
        self.sequence += 1;
        let heartbeat = HeartbeatRequest {
            incarnation: self.incarnation,
            sequence: self.sequence,
            ..HeartbeatRequest::default()
        };
        let heard = self.client.heartbeat(heartbeat).await?.into_inner();
        ensure!(heard.ended.is_empty(), "an agent has ended");
        Ok(())
    }
}
