//! Asking the control plane for what is no longer, or not yet, in the ring.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    common::v1::Position,
    events::v1::{
        StreamPosition, WatchRequest, WatchResponse, event_service_client::EventServiceClient,
        watch_response::Message,
    },
    grant_token::Rev,
    reason::{Problem, Reason},
    status::from_status,
};

use super::{
    Event, EventLog,
    id::STREAM,
    ring::{Found, Ring},
};
use crate::{clock::Ambient, dial::Channel};

/// For one part; another reader may be waiting.
const PART_TIME: Duration = Duration::from_secs(10);
/// Events of a part, more or less: the control plane sends up to a thousand
/// changes together.
const PART: usize = 1024;

/// Where events come from that are not in the ring.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) channel: Channel,
    pub(super) ambient: Ambient,
    pub(super) log: Arc<EventLog>,
}

/// What came after a position.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) events: Vec<Arc<Event>>,
    /// Everything up to here was looked at.
    pub(super) up_to: Rev,
}

impl Source {
    /// The wanted events after a position, up to where the ring goes on, or as
    /// many as come at once. Few readers are served at a time, and none for long.
    pub(super) async fn part<F>(self, after: Rev, wanted: Arc<F>) -> Result<Part, Problem>
    where
        F: Fn(&Event) -> bool + Send + Sync + 'static,
    {
        // never closed
        let _place = self.log.catching_up.clone().acquire_owned().await.ok();
        let mut part = Part {
            events: Vec::new(),
            up_to: after,
        };
        let reading = tokio::time::timeout(PART_TIME, self.read(&mut part, &*wanted));
        let outcome = reading.await.unwrap_or_else(|_| {
            let detail = "the control plane did not tell what was missed in time";
            Err(Problem::new(Reason::Unavailable, detail))
        });
        match outcome {
            // what was read counts; the next part meets the problem again
            Err(problem) if part.up_to == after => Err(problem),
            _ => Ok(part),
        }
    }

    async fn read(&self, part: &mut Part, wanted: impl Fn(&Event) -> bool) -> Result<(), Problem> {
        let request = WatchRequest {
            after: vec![StreamPosition {
                stream: STREAM.to_owned(),
                position: Some(Position {
                    epoch: part.up_to.epoch,
                    revision: part.up_to.revision,
                }),
            }],
            from_client: true,
            ..WatchRequest::default()
        };
        let mut stream = EventServiceClient::new(self.channel.clone())
            .watch(request)
            .await
            .map_err(|status| from_status(&status))?
            .into_inner();
        let mut ring = self.log.ring.subscribe();
        loop {
            if part.events.len() >= PART || part.is_within(&ring.borrow_and_update()) {
                return Ok(());
            }
            tokio::select! {
                message = stream.message() => {
                    match message.map_err(|status| from_status(&status))? {
                        Some(message) => part.take(&message, &wanted),
                        None => return Err(Problem::new(Reason::Unavailable, "the stream ended")),
                    }
                }
                // it may have come to where this part is
                _ = ring.changed() => {}
            }
        }
    }
}

impl Part {
    fn is_within(&self, ring: &Ring) -> bool {
        matches!(ring.find(self.up_to), Found::Next(_))
    }

    fn take(&mut self, message: &WatchResponse, wanted: impl Fn(&Event) -> bool) {
        match &message.message {
            Some(Message::Changes(changes)) => {
                for (position, event) in changes.changes.iter().filter_map(Event::read) {
                    self.up_to = position;
                    self.events
                        .extend(event.filter(|event| wanted(event)).map(Arc::new));
                }
            }
            Some(Message::Progress(_)) | None => {}
        }
    }
}
