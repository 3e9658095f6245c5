//! What clients are told of changes: the newest events in memory, shared by all
//! readers, and for readers from before them what the control plane remembers.

use std::sync::Arc;

use authguardian_proto::{common::v1::Position, grant_token::Rev};
use futures::Stream;
use tokio::sync::{Semaphore, watch};

use super::Upstream;

mod catch_up;
mod event;
mod follow;
mod id;
mod ring;

pub use event::{Event, EventName, Subject};
pub use follow::Heard;
pub use id::{EventId, ParseEventIdError};

use catch_up::Source;
use follow::Follow;
use ring::Ring;

/// Events that are kept: how far a reader can be behind before it has to come again.
const KEPT: usize = 4096;
/// Readers that are brought up to date by the control plane at the same time.
const CATCHING_UP: usize = 4;

/// The newest events. It is filled by the feed, in order and once.
#[derive(Debug)]
pub struct EventLog {
    ring: watch::Sender<Ring>,
    catching_up: Arc<Semaphore>,
}

impl EventLog {
    /// Where its events come from.
    pub(super) const STREAM: &'static str = id::STREAM;

    pub(super) fn new() -> Arc<Self> {
        Self::keeping(KEPT)
    }

    fn keeping(kept: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: watch::Sender::new(Ring::new(kept)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP)),
        })
    }

    /// Changes were missed: from here on all are told again.
    pub(super) fn begin_anew(&self, head: Position) {
        let head = rev(head);
        self.ring.send_modify(|ring| ring.begin_anew(head));
    }

    /// The next changes, each with the event that it is, if any.
    pub(super) fn add(&self, changes: Vec<(Rev, Option<Event>)>) {
        if changes.is_empty() {
            return;
        }
        self.ring.send_modify(|ring| {
            for (position, event) in changes {
                ring.add(position, event);
            }
        });
    }

    /// Tells of something that happened at this edge only: an event without
    /// position, which a reader that comes again may hear again, or not at all.
    pub fn tell(&self, event: Event) {
        self.ring.send_modify(|ring| ring.tell(event));
    }

    /// How many are reading.
    pub fn readers(&self) -> usize {
        self.ring.receiver_count()
    }
}

impl Upstream {
    /// The events that are wanted, after a position or from now on, without gap
    /// or repetition. It waits for more, and ends after [`Heard::Lagged`].
    pub fn events<F>(
        &self,
        after: Option<EventId>,
        wanted: F,
    ) -> impl Stream<Item = Heard> + Send + use<F>
    where
        F: Fn(&Event) -> bool + Send + Sync + 'static,
    {
        let source = Source {
            channel: self.channel.clone(),
            ambient: self.ambient.clone(),
            log: self.feed.events().clone(),
        };
        Follow::begin(source, after.map(|EventId(after)| after), wanted).heard()
    }
}

fn rev(position: Position) -> Rev {
    Rev {
        epoch: position.epoch,
        revision: position.revision,
    }
}

#[cfg(test)]
mod testing {
    use super::*;

    /// A grant of an agent.
    pub(super) fn event(position: Rev, agent: &str) -> Event {
        Event {
            name: EventName::GrantGranted,
            position: Some(position),
            subject: Subject::HolderOf(agent.parse().ok()),
            data: "{}".to_owned(),
        }
    }
}
