//! One reader of the events.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    grant_token::Rev,
    reason::{Problem, Reason},
};
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Event,
    catch_up::{Part, Source},
    ring::{Found, Read, Ring},
};

/// Events that are looked at in one go: the feed waits for it.
const AT_ONCE: usize = 256;
/// How long the ring may take to come to a position that is ahead of it, told by
/// another edge.
const AHEAD: Duration = Duration::from_secs(2);
/// After the control plane could not tell what was missed.
const AGAIN: Duration = Duration::from_secs(1);

/// What a reader hears.
#[derive(Debug, Clone)]
pub enum Heard {
    /// The next events, in order; there may be none.
    Events {
        /// Those that are wanted.
        events: Vec<Arc<Event>>,
        /// Everything up to here was looked at.
        up_to: Rev,
    },
    /// What came after the reader's position can be told by nobody any more: it
    /// has to look at everything again, and goes on from here.
    Compacted {
        /// Where it goes on.
        up_to: Rev,
    },
    /// The reader was too slow. It is over; to come again with this position
    /// loses nothing.
    Lagged {
        /// What was looked at.
        up_to: Rev,
    },
}

/// A reader, and where it is.
pub(super) struct Follow<F> {
    source: Source,
    ring: watch::Receiver<Ring>,
    wanted: Arc<F>,
    place: Place,
    /// What the reader was told to have come to.
    told: Option<Rev>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    /// Wherever the ring will begin.
    Begin,
    /// After a position that has to be looked for.
    After(Rev),
    /// In the ring: the next number, and what was looked at.
    In(u64, Rev),
}

impl<F: Fn(&Event) -> bool + Send + Sync + 'static> Follow<F> {
    /// After a position, or from this moment on.
    pub(super) fn begin(source: Source, after: Option<Rev>, wanted: F) -> Self {
        let ring = source.log.ring.subscribe();
        let place = after.map_or_else(
            || {
                let ring = ring.borrow();
                let known = ring.known();
                known.map_or(Place::Begin, |known| Place::In(ring.end(), known.head))
            },
            Place::After,
        );
        Self {
            source,
            ring,
            wanted: Arc::new(wanted),
            place,
            told: None,
        }
    }

    /// All of it; what is under way goes on between two items.
    pub(super) fn heard(self) -> impl Stream<Item = Heard> + Send + use<F> {
        stream::unfold(Some(self), |follow| async {
            let mut follow = follow?;
            let heard = follow.next().await?;
            let rest = (!matches!(heard, Heard::Lagged { .. })).then_some(follow);
            Some((heard, rest))
        })
    }

    /// `None` when the edge ends.
    async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.place {
                Place::Begin => {
                    let (next, head) = self.end().await?;
                    self.place = Place::In(next, head);
                }
                Place::After(after) => {
                    self.end().await?;
                    if let Some(heard) = self.look_for(after).await? {
                        return Some(heard);
                    }
                }
                Place::In(next, up_to) => match self.read(next, up_to) {
                    Some(heard) => return Some(heard),
                    None if matches!(self.place, Place::In(..)) => {
                        self.ring.changed().await.ok()?;
                    }
                    None => {}
                },
            }
        }
    }

    /// Reads on in the ring; `None` when there is nothing new, or the place is
    /// another.
    fn read(&mut self, next: u64, before: Rev) -> Option<Heard> {
        let read = self
            .ring
            .borrow_and_update()
            .read(next, AT_ONCE, &*self.wanted);
        let (events, next, up_to) = match read {
            Read::BegunAnew => {
                self.place = Place::After(before);
                return None;
            }
            Read::Gone => return Some(Heard::Lagged { up_to: before }),
            Read::Events {
                events,
                next,
                up_to,
            } => (events, next, up_to.unwrap_or(before)),
        };
        self.place = Place::In(next, up_to);
        if events.is_empty() && self.told == Some(up_to) {
            return None;
        }
        self.told = Some(up_to);
        Some(Heard::Events { events, up_to })
    }

    /// Finds a position in the ring, or asks for what came after it; `Some(None)`
    /// when the place is another now, or may be.
    async fn look_for(&mut self, after: Rev) -> Option<Option<Heard>> {
        let found = self.ring.borrow_and_update().find(after);
        match found {
            Found::Next(next) => {
                self.place = Place::In(next, after);
                return Some(None);
            }
            Found::Over => return self.compacted().await.map(Some),
            Found::Elsewhere => {}
        }
        if self.is_ahead(after) && self.comes_to(after).await {
            return Some(None);
        }
        match self.part(after).await {
            Ok(Part { events, up_to }) => {
                self.place = Place::After(up_to);
                let is_news = self.told != Some(up_to);
                self.told = Some(up_to);
                Some(is_news.then_some(Heard::Events { events, up_to }))
            }
            Err(problem) if problem.reason == Reason::Compacted => self.compacted().await.map(Some),
            Err(problem) => {
                tracing::debug!(reason = %problem.reason, detail = problem.detail, "a reader cannot be told now what it missed");
                tokio::time::sleep(self.source.ambient.jittered(AGAIN)).await;
                Some(None)
            }
        }
    }

    fn is_ahead(&self, after: Rev) -> bool {
        let known = self.ring.borrow().known();
        known.is_some_and(|known| known.head < after)
    }

    async fn comes_to(&mut self, after: Rev) -> bool {
        let is_there = |ring: &Ring| matches!(ring.find(after), Found::Next(_));
        let waiting = self.ring.wait_for(|ring| is_there(ring));
        tokio::time::timeout(AHEAD, waiting)
            .await
            .is_ok_and(|came| came.is_ok())
    }

    /// In a task of its own: it ends soon, however slowly the reader reads.
    async fn part(&self, after: Rev) -> Result<Part, Problem> {
        let asking = self.source.clone().part(after, self.wanted.clone());
        let asking = AbortOnDropHandle::new(tokio::spawn(asking));
        asking
            .await
            .unwrap_or_else(|_| Err(Problem::new(Reason::Unavailable, "the edge is stopping")))
    }

    async fn compacted(&mut self) -> Option<Heard> {
        let (next, up_to) = self.end().await?;
        self.place = Place::In(next, up_to);
        self.told = Some(up_to);
        Some(Heard::Compacted { up_to })
    }

    /// Where the ring ends, once it has begun.
    async fn end(&mut self) -> Option<(u64, Rev)> {
        let ring = self
            .ring
            .wait_for(|ring| ring.known().is_some())
            .await
            .ok()?;
        Some((ring.end(), ring.known()?.head))
    }
}
