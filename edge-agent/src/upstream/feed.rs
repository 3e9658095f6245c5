//! One stream of changes from the control plane, resumed where it broke, fed
//! to everybody in this process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{
    common::v1::Position,
    events::v1::{
        StreamPosition, WatchRequest, WatchResponse, event_service_client::EventServiceClient,
        watch_response::Message,
    },
    reason::{Problem, Reason},
    status::from_status,
};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::Change;
use crate::clock::Ambient;

const STREAMS: [&str; 4] = ["identity", "policy", "registry", "grants"];
/// Changes that a slow reader may be behind before it has to relist.
const CAPACITY: usize = 4096;
/// The control plane tells its progress every second; after this silence the
/// stream is taken for broken.
const SILENCE: Duration = Duration::from_secs(5);
/// After a break, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(3);
/// `last_heard` before the first message.
const NEVER: u64 = u64::MAX;

/// The changes, and how fresh they are. Clones share one stream.
#[derive(Debug, Clone)]
pub struct Feed {
    changes: broadcast::Sender<Change>,
    /// Milliseconds since boot, or [`NEVER`].
    last_heard: Arc<AtomicU64>,
    reached: watch::Sender<bool>,
    ambient: Ambient,
}

impl Feed {
    /// A feed that nothing fills yet.
    pub fn new(ambient: Ambient) -> Self {
        Self {
            changes: broadcast::Sender::new(CAPACITY),
            last_heard: Arc::new(AtomicU64::new(NEVER)),
            reached: watch::Sender::new(false),
            ambient,
        }
    }

    /// Every change from now on. A lagging reader takes it as
    /// [`Change::Everything`].
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// How long nothing was heard; `None` before the first message.
    pub fn staleness(&self) -> Option<Duration> {
        let heard = self.last_heard.load(Ordering::Acquire);
        (heard != NEVER).then(|| {
            self.ambient
                .clock
                .since_boot()
                .saturating_sub(Duration::from_millis(heard))
        })
    }

    /// Whether something was heard within the last five seconds.
    pub fn is_fresh(&self) -> bool {
        self.staleness().is_some_and(|age| age <= SILENCE)
    }

    /// Waits for the first message.
    pub async fn reached(&self) {
        // the sender lives as long as self
        let _ = self.reached.subscribe().wait_for(|reached| *reached).await;
    }

    /// Fills the feed until told to stop.
    pub async fn run(self, channel: Channel, stop: CancellationToken) {
        let mut client = EventServiceClient::new(channel);
        let mut positions = Positions::default();
        let mut retry = RETRY_MIN;
        loop {
            let heard_before = self.last_heard.load(Ordering::Acquire);
            let problem = tokio::select! {
                () = stop.cancelled() => return,
                problem = self.follow(&mut client, &mut positions) => problem,
            };
            if problem.reason == Reason::Compacted {
                tracing::warn!("changes were missed, all is taken as changed");
                positions = Positions::default();
                self.send(Change::Everything);
            } else {
                tracing::warn!(reason = %problem.reason, detail = problem.detail, "the stream of changes broke");
            }
            if self.last_heard.load(Ordering::Acquire) != heard_before {
                retry = RETRY_MIN;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.ambient.jittered(retry)) => {}
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Reads one stream to its end, which is always a problem.
    async fn follow(
        &self,
        client: &mut EventServiceClient<Channel>,
        positions: &mut Positions,
    ) -> Problem {
        let silent = || Problem::new(Reason::Unavailable, "nothing was heard for five seconds");
        let request = WatchRequest {
            after: positions.request(),
        };
        let mut stream = match tokio::time::timeout(SILENCE, client.watch(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return from_status(&status),
            Err(_) => return silent(),
        };
        loop {
            match tokio::time::timeout(SILENCE, stream.message()).await {
                Ok(Ok(Some(message))) => self.take(message, positions),
                Ok(Ok(None)) => return Problem::new(Reason::Unavailable, "the stream ended"),
                Ok(Err(status)) => return from_status(&status),
                Err(_) => return silent(),
            }
        }
    }

    fn take(&self, message: WatchResponse, positions: &mut Positions) {
        match message.message {
            Some(Message::Change(change)) => {
                positions.advance(change.stream.clone(), change.position);
                if let Some(change) = Change::read(change) {
                    self.send(change);
                }
            }
            Some(Message::Progress(progress)) => {
                for head in progress.heads {
                    positions.advance(head.stream, head.position);
                }
            }
            None => {}
        }
        let now = u64::try_from(self.ambient.clock.since_boot().as_millis()).unwrap_or_default();
        self.last_heard.store(now, Ordering::Release);
        self.reached
            .send_if_modified(|reached| !std::mem::replace(reached, true));
    }

    fn send(&self, change: Change) {
        // nobody listening is no error
        let _ = self.changes.send(change);
    }
}

#[cfg(test)]
impl Feed {
    /// As if an empty message had come.
    pub(crate) fn hear_now(&self) {
        self.take(WatchResponse { message: None }, &mut Positions::default());
    }

    /// As if a change had come.
    pub(crate) fn tell(&self, change: Change) {
        self.send(change);
    }

    /// How many listen.
    pub(crate) fn subscribers(&self) -> usize {
        self.changes.receiver_count()
    }
}

/// Where each stream is to be resumed; unknown means at its head.
#[derive(Default)]
struct Positions(BTreeMap<String, Position>);

impl Positions {
    fn advance(&mut self, stream: String, position: Option<Position>) {
        if let Some(position) = position {
            self.0.insert(stream, position);
        }
    }

    fn request(&self) -> Vec<StreamPosition> {
        STREAMS
            .iter()
            .map(|stream| StreamPosition {
                stream: (*stream).to_owned(),
                position: self.0.get(*stream).copied(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::events::v1 as pb;

    use super::*;
    use crate::clock::manual::ManualClock;

    fn change(stream: &str, revision: u64, body: pb::change::Body) -> WatchResponse {
        WatchResponse {
            message: Some(Message::Change(pb::Change {
                stream: stream.to_owned(),
                position: Some(Position { epoch: 1, revision }),
                occurred_at: None,
                body: Some(body),
            })),
        }
    }

    #[test]
    fn a_break_resumes_after_the_last_change() {
        let (_, ambient) = ManualClock::ambient();
        let feed = Feed::new(ambient);
        let mut changes = feed.subscribe();
        let mut positions = Positions::default();
        assert!(
            positions
                .request()
                .iter()
                .all(|after| after.position.is_none())
        );
        let issued = pb::GrantIssued {
            agent_id: "a".into(),
            ..Default::default()
        };
        feed.take(
            change("grants", 7, pb::change::Body::GrantIssued(issued)),
            &mut positions,
        );
        let after = positions.request();
        assert_eq!(
            after[3].position,
            Some(Position {
                epoch: 1,
                revision: 7
            })
        );
        assert!(matches!(changes.try_recv(), Ok(Change::Grants(_))));
    }

    #[test]
    fn silence_makes_it_stale() {
        let (clock, ambient) = ManualClock::ambient();
        let feed = Feed::new(ambient);
        assert!(!feed.is_fresh());
        feed.take(WatchResponse { message: None }, &mut Positions::default());
        assert!(feed.is_fresh());
        clock.advance(Duration::from_millis(5001));
        assert!(!feed.is_fresh());
    }
}
