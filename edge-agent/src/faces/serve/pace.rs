//! How long a connection may take for what it is doing.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

use crate::config::Limits;

/// What a connection is doing, told by its two ends: bytes that arrive, and
/// requests that begin and end. All of it happens in the connection's own task.
#[derive(Debug)]
pub(super) struct Pace {
    began: Instant,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Whether there was a request yet.
    has_asked: AtomicBool,
    /// Requests whose answers are not sent yet.
    under_way: AtomicU32,
    /// Milliseconds since it began: when the last answer was sent.
    quiet_since: AtomicU64,
    /// Likewise, plus one: when the first byte of a head came; 0: none did.
    head_since: AtomicU64,
}

/// One request, until its answer is sent or given up.
#[derive(Debug)]
pub(super) struct Exchange(Arc<Pace>);

/// An answer's body, which ends its exchange.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    _exchange: Exchange,
}

impl Pace {
    pub(super) fn begin(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            header_timeout: limits.header_timeout(),
            idle_timeout: limits.idle_timeout(),
            has_asked: AtomicBool::new(false),
            under_way: AtomicU32::new(0),
            quiet_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
        })
    }

    /// Something arrived.
    pub(super) fn heard(&self) {
        if self.under_way.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// A request's head is there.
    pub(super) fn asked(self: &Arc<Self>) -> Exchange {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.has_asked.store(true, Ordering::Relaxed);
        Exchange(self.clone())
    }

    /// When the connection is to be closed if nothing happens; `None` while
    /// it is the edge's turn.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return None;
        }
        if !self.has_asked.load(Ordering::Relaxed) {
            return Some(self.began + self.header_timeout);
        }
        Some(match self.head_since.load(Ordering::Relaxed) {
            0 => self.at(self.quiet_since.load(Ordering::Relaxed)) + self.idle_timeout,
            head_since => self.at(head_since - 1) + self.header_timeout,
        })
    }

    fn at(&self, millis: u64) -> Instant {
        self.began + Duration::from_millis(millis)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Exchange {
    /// Goes on until the body is sent.
    pub(super) fn with(self, body: Body) -> Answer {
        Answer {
            body,
            _exchange: self,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.quiet_since.store(self.0.now(), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Arc<Pace> {
        Pace::begin(&Limits {
            header_timeout_seconds: 10,
            idle_timeout_seconds: 100,
            ..Limits::default()
        })
    }

    fn in_seconds(pace: &Pace) -> Option<u64> {
        let left = pace.deadline()?.saturating_duration_since(Instant::now());
        // a busy machine may take a while between two lines, but not that long
        Some((left.as_secs() + 5) / 10 * 10)
    }

    #[test]
    fn a_first_request_has_to_come_in_time_whatever_was_heard() {
        let pace = pace();
        let limit = pace.began + Duration::from_secs(10);
        assert_eq!(pace.deadline(), Some(limit));
        pace.heard();
        assert_eq!(pace.deadline(), Some(limit));
    }

    #[test]
    fn while_the_edge_answers_there_is_no_limit() {
        let pace = pace();
        let exchange = pace.asked();
        assert_eq!(pace.deadline(), None);
        let answer = exchange.with(Body::from("x"));
        pace.heard();
        assert_eq!(pace.deadline(), None);
        drop(answer);
        assert_eq!(in_seconds(&pace), Some(100));
    }

    #[test]
    fn a_head_has_to_come_in_time_from_its_first_byte_on() {
        let pace = pace();
        drop(pace.asked());
        pace.heard();
        let limit = pace.deadline();
        assert_eq!(in_seconds(&pace), Some(10));
        std::thread::sleep(Duration::from_millis(5));
        pace.heard();
        assert_eq!(pace.deadline(), limit, "bytes win no time");
        drop(pace.asked());
        assert_eq!(in_seconds(&pace), Some(100));
    }
}
