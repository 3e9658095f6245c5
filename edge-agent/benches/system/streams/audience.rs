//! All streams, and when each was told.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::stream::{Kind, Opener, Stream};

/// In the order in which they are opened.
pub(super) const KINDS: [Kind; 3] = [Kind::Sse, Kind::WebSocket, Kind::Events];

/// Streams that are opened side by side.
const OPENERS: usize = 32;
/// Nothing more comes of what happened before after so long without a message.
const QUIET: Duration = Duration::from_millis(500);
/// A revocation that was not told by then is lost.
const DEADLINE: Duration = Duration::from_mins(1);

/// Streams that listen.
pub(super) struct Audience {
    edge: SocketAddr,
    api_key: String,
    /// By the numbers of streams.
    kinds: Vec<Kind>,
    hearing: UnboundedSender<Heard>,
    heard: UnboundedReceiver<Heard>,
    listeners: JoinSet<()>,
}

/// A stream was told of something, or broke.
struct Heard {
    stream: usize,
    at: Result<Instant>,
}

/// How long it took until each stream was told, sorted.
pub(super) struct Told(Vec<(Duration, Kind)>);

impl Audience {
    /// Nobody yet.
    pub(super) fn new(edge: SocketAddr, api_key: &str) -> Self {
        let (hearing, heard) = mpsc::unbounded_channel();
        Self {
            edge,
            api_key: api_key.to_owned(),
            kinds: Vec::new(),
            hearing,
            heard,
            listeners: JoinSet::new(),
        }
    }

    /// So many more.
    pub(super) async fn open(&mut self, kind: Kind, count: usize) -> Result<()> {
        let mut openers = JoinSet::new();
        for number in 0..OPENERS {
            let mut opener = Opener::new(self.edge, &self.api_key).await?;
            let share = count / OPENERS + usize::from(number < count % OPENERS);
            openers.spawn(async move {
                let mut streams = Vec::with_capacity(share);
                for _ in 0..share {
                    streams.push(opener.open(kind).await?);
                }
                Ok::<_, anyhow::Error>(streams)
            });
        }
        while let Some(streams) = openers.join_next().await {
            for stream in streams?? {
                let number = self.kinds.len();
                self.kinds.push(kind);
                self.listeners
                    .spawn(listen(stream, number, self.hearing.clone()));
            }
        }
        Ok(())
    }

    /// Waits until all that has happened was told.
    pub(super) async fn until_quiet(&mut self) -> Result<()> {
        while let Ok(heard) = timeout(QUIET, self.heard.recv()).await {
            heard.context("streams are open")?.at?;
        }
        Ok(())
    }

    /// Waits until every stream was told of what begins now or before.
    pub(super) async fn all_told(&mut self, began: Instant) -> Result<Told> {
        let mut told: Vec<Option<Duration>> = vec![None; self.kinds.len()];
        let mut left = told.len();
        while left > 0 {
            let heard = timeout_at(began + DEADLINE, self.heard.recv()).await;
            let heard = heard.with_context(|| format!("{left} streams were not told"))?;
            let Heard { stream, at } = heard.context("streams are open")?;
            let told = &mut told[stream];
            if told.is_none() {
                *told = Some(at?.duration_since(began));
                left -= 1;
            }
        }
        let told = told.into_iter().flatten();
        let mut told: Vec<_> = told.zip(self.kinds.iter().copied()).collect();
        told.sort_unstable_by_key(|(took, _)| *took);
        Ok(Told(told))
    }
}

async fn listen(mut stream: Stream, number: usize, hearing: UnboundedSender<Heard>) {
    loop {
        let at = stream.told().await.map(|()| Instant::now());
        let is_broken = at.is_err();
        let heard = Heard { stream: number, at };
        if hearing.send(heard).is_err() || is_broken {
            return;
        }
    }
}

impl Told {
    /// After how many milliseconds so many percent of these streams were told.
    pub(super) fn percent(&self, percent: usize, is_meant: impl Fn(Kind) -> bool) -> f64 {
        let meant = self.0.iter().filter(|(_, kind)| is_meant(*kind));
        let meant: Vec<Duration> = meant.map(|(took, _)| *took).collect();
        let index = (meant.len() * percent / 100).min(meant.len().saturating_sub(1));
        meant
            .get(index)
            .map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    }
}
