//! The public keys that tokens are checked with, and when to read them again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use authguardian_proto::grant_token::KeySet;
use tokio::sync::watch;

/// One reading of the keys.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) keys: KeySet,
    /// The wishes that it fulfils: all up to this one. 0: nothing was read yet.
    pub(super) generation: u64,
}

/// The keys. Wishes to read them again are numbered; a reading fulfils those
/// that were made before it began.
pub struct Keys {
    reading: ArcSwap<Reading>,
    wishes: watch::Sender<u64>,
    fulfilled: watch::Sender<u64>,
    /// No token is checked here with a reading older than this wish.
    needed: AtomicU64,
}

impl Default for Keys {
    /// Nothing was read, and that is wished for.
    fn default() -> Self {
        Self {
            reading: ArcSwap::default(),
            wishes: watch::Sender::new(1),
            fulfilled: watch::Sender::new(0),
            needed: AtomicU64::new(1),
        }
    }
}

impl Keys {
    pub(super) fn reading(&self) -> Arc<Reading> {
        self.reading.load_full()
    }

    /// Whether a reading holds all that is known to have changed.
    pub(super) fn suffices(&self, reading: &Reading) -> bool {
        reading.generation >= self.needed.load(Ordering::Acquire)
    }

    /// The keys have changed: none of the old readings counts any more.
    pub(super) fn changed(&self) {
        let wish = self.wish();
        self.needed.fetch_max(wish, Ordering::AcqRel);
    }

    /// Waits until the keys have been read once more from now on.
    pub async fn read_again(&self) {
        let wish = self.wish();
        let mut fulfilled = self.fulfilled.subscribe();
        // the sender lives as long as self
        let _ = fulfilled.wait_for(|fulfilled| *fulfilled >= wish).await;
    }

    /// Waits until somebody wishes for a reading; returns its number, and
    /// whether checks wait for it.
    pub async fn wished(&self) -> (u64, bool) {
        let done = *self.fulfilled.borrow();
        let mut wishes = self.wishes.subscribe();
        // the sender lives as long as self
        let wish = wishes
            .wait_for(|wish| *wish > done)
            .await
            .map_or(done, |wish| *wish);
        (wish, self.needed.load(Ordering::Acquire) > done)
    }

    /// Takes a reading that was begun after this wish was made.
    pub fn take(&self, keys: KeySet, wish: u64) {
        self.reading.store(Arc::new(Reading {
            keys,
            generation: wish,
        }));
        self.fulfilled.send_replace(wish);
    }

    fn wish(&self) -> u64 {
        let mut made = 0;
        self.wishes.send_modify(|wish| {
            *wish += 1;
            made = *wish;
        });
        made
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys(reading {})", *self.fulfilled.borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_fulfilled_by_a_reading_that_began_after_it() {
        let keys = Arc::new(Keys::default());
        let (first, waited_for) = keys.wished().await;
        assert!(waited_for, "nothing was read yet");
        assert!(!keys.suffices(&keys.reading()));
        let waiting = tokio::spawn({
            let keys = keys.clone();
            async move { keys.read_again().await }
        });
        while *keys.wishes.borrow() == first {
            tokio::task::yield_now().await;
        }
        keys.take(KeySet::default(), first);
        assert!(keys.suffices(&keys.reading()));
        let (second, waited_for) = keys.wished().await;
        assert!(second > first && !waited_for);
        assert!(!waiting.is_finished(), "the first reading began before it");
        keys.take(KeySet::default(), second);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn changed_keys_are_not_used_until_they_are_read() {
        let keys = Keys::default();
        let (wish, _) = keys.wished().await;
        keys.take(KeySet::default(), wish);
        keys.changed();
        assert!(!keys.suffices(&keys.reading()));
        let (wish, waited_for) = keys.wished().await;
        assert!(waited_for);
        keys.take(KeySet::default(), wish);
        assert!(keys.suffices(&keys.reading()));
    }
}
