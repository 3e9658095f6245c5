//! What all clients of a round have come to, for those who wait for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use authguardian_history::Answer;
use tokio::sync::watch;

use crate::wait::DEADLINE;

/// Shared by all clients.
#[derive(Clone, Default)]
pub(super) struct Progress {
    heard: Arc<watch::Sender<Heard>>,
    refused: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// In numbers.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Heard {
    /// Acknowledged writes.
    pub(super) writes: usize,
    /// Answered reads.
    pub(super) reads: usize,
    /// Attempts whose outcome was not told.
    pub(super) unknown: usize,
    /// The newest revision told.
    pub(super) revision: u64,
    /// Since when a write is waited for, and how long after that the first one
    /// was acknowledged that began later.
    since: Option<(Duration, Option<Duration>)>,
}

impl Progress {
    pub(super) fn hears(&self, start: Duration, end: Duration, is_write: bool, answer: &Answer) {
        self.heard.send_modify(|heard| {
            heard.revision = heard.revision.max(answer.position().revision);
            if !is_write {
                heard.reads += 1;
                return;
            }
            heard.writes += 1;
            if let Some((since, first @ None)) = &mut heard.since
                && *since <= start
            {
                *first = Some(end.saturating_sub(*since));
            }
        });
    }

    pub(super) fn misses(&self) {
        self.heard.send_modify(|heard| heard.unknown += 1);
    }

    pub(super) fn is_refused(&self, reason: &str) {
        let mut refused = self.refused.lock().unwrap();
        *refused.entry(reason.to_owned()).or_default() += 1;
    }

    pub(super) fn heard(&self) -> Heard {
        *self.heard.borrow()
    }

    /// Refusals that say nothing of what is on the board, with how often.
    pub(super) fn refused(&self) -> BTreeMap<String, usize> {
        self.refused.lock().unwrap().clone()
    }

    /// Waits until so many more writes were acknowledged.
    pub(super) async fn writes(&self, more: usize) {
        let enough = self.heard().writes + more;
        self.until(|heard| heard.writes >= enough).await;
    }

    /// How long after `since` the first write is acknowledged that has begun
    /// later than that.
    pub(super) async fn first_write_since(&self, since: Duration) -> Duration {
        self.heard
            .send_modify(|heard| heard.since = Some((since, None)));
        let first = |heard: &Heard| heard.since.and_then(|(_, first)| first);
        self.until(|heard| first(heard).is_some()).await;
        first(&self.heard()).unwrap()
    }

    async fn until(&self, enough: impl FnMut(&Heard) -> bool) {
        let mut heard = self.heard.subscribe();
        let enough = tokio::time::timeout(DEADLINE, heard.wait_for(enough)).await;
        assert!(
            enough.is_ok(),
            "still not after {DEADLINE:?}, but {:?}, refused {:?}, unknown {:#?}",
            self.heard(),
            self.refused(),
            super::reason::take_unknown()
        );
    }
}
