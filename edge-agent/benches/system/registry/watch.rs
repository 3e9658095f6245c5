//! How soon a change is known at every edge that watches.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use authguardian_proto::{
    events::v1::{
        StreamPosition, WatchRequest, WatchResponse, change::Body,
        event_service_client::EventServiceClient, watch_response::Message,
    },
    registry::v1::{RegisterAgentRequest, registry_service_client::RegistryServiceClient},
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{
    Streaming,
    metadata::{Ascii, MetadataValue},
};

use super::edge::SimulatedEdge;
use crate::{args::Args, progress, report::Row, system::AGENT};

/// Changes of each round.
const CHANGES: u32 = 20;
const CHANGES_WHEN_QUICK: u32 = 3;
/// A change that is not known by then is lost.
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures it.
pub(super) async fn run(
    args: &Args,
    edges: &[SimulatedEdge],
    bearer: &MetadataValue<Ascii>,
) -> Result<Vec<Row>> {
    let (tell, mut told) = mpsc::unbounded_channel::<Result<(u64, Instant)>>();
    let mut watchers = Vec::new();
    for edge in edges {
        let stream = begin(edge).await?;
        let tell = tell.clone();
        watchers.push(tokio::spawn(async move {
            if let Err(error) = follow(stream, &tell).await {
                let _ = tell.send(Err(error));
            }
        }));
    }
    let first = edges.first().context("an edge")?;
    let mut client = RegistryServiceClient::new(first.channel.clone());
    let changes = if args.quick {
        CHANGES_WHEN_QUICK
    } else {
        CHANGES
    };
    let (mut p50, mut p99, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds() {
        progress!("registry: {changes} changes watched by all, round {round}");
        let mut delays = Vec::new();
        for change in 0..changes {
            let mut request = tonic::Request::new(RegisterAgentRequest {
                agent_id: AGENT.to_owned(),
                labels: [("change".to_owned(), format!("{round}-{change}"))].into(),
                ..RegisterAgentRequest::default()
            });
            request
                .metadata_mut()
                .insert("authorization", bearer.clone());
            let began = Instant::now();
            let agent = client.register_agent(request).await?.into_inner().agent;
            let epoch = agent.and_then(|own| own.agent).context("the agent")?.epoch;
            let mut known = 0;
            while known < edges.len() {
                let next = tokio::time::timeout(DEADLINE, told.recv())
                    .await
                    .with_context(|| {
                        format!("{known} of {} know of change {change}", edges.len())
                    })?;
                let (of, at): (u64, Instant) = next.context("all watch")??;
                if of == epoch {
                    known += 1;
                    delays.push(at.saturating_duration_since(began));
                }
            }
        }
        delays.sort_unstable();
        let percentile = |percent: usize| {
            let index = (delays.len() * percent / 100).min(delays.len() - 1);
            delays[index].as_secs_f64() * 1e3
        };
        p50.push(percentile(50));
        p99.push(percentile(99));
        last.push(percentile(100));
    }
    for watcher in watchers {
        watcher.abort();
    }
    Ok(vec![
        Row::new(
            "from a registration until half of 1,000 edges know",
            "ms",
            &p50,
        ),
        Row::new("until 99 % do", "ms", &p99),
        Row::new("until the last does", "ms", &last),
    ])
}

async fn begin(edge: &SimulatedEdge) -> Result<Streaming<WatchResponse>> {
    let after = vec![StreamPosition {
        stream: "registry".to_owned(),
        position: None,
    }];
    let watching = EventServiceClient::new(edge.channel.clone())
        .watch(WatchRequest {
            after,
            ..WatchRequest::default()
        })
        .await?;
    let mut stream = watching.into_inner();
    let first = stream.message().await?;
    ensure!(first.is_some(), "a watch has ended at once");
    Ok(stream)
}

/// Tells the epoch of each change, and when it came.
async fn follow(
    mut stream: Streaming<WatchResponse>,
    tell: &mpsc::UnboundedSender<Result<(u64, Instant)>>,
) -> Result<()> {
    while let Some(message) = stream.message().await? {
        let at = Instant::now();
        let Some(Message::Changes(changes)) = message.message else {
            continue;
        };
        for change in changes.changes {
            if let Some(Body::AgentChanged(changed)) = change.body {
                tell.send(Ok((changed.epoch, at)))
                    .ok()
                    .context("nobody asks any more")?;
            }
        }
    }
    Ok(())
}
