//! The handshakes under way. Whoever connects and is silent would hold a turn
//! for as long as a handshake may take: so when there are too many, the oldest
//! makes room, which one that goes on as it should is not for long.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How many are under way at the most.
const MAX: usize = 256;

/// The handshakes of one listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Handshakes(Arc<Mutex<UnderWay>>);

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// In the order in which they began.
    turns: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    number: u64,
    over: oneshot::Receiver<()>,
    handshakes: Handshakes,
}

impl Handshakes {
    /// Begins one; the oldest is over if there are too many now.
    pub(super) fn begin(&self) -> Turn {
        let (end, over) = oneshot::channel();
        let mut under_way = self.under_way();
        let number = under_way.next;
        under_way.next += 1;
        under_way.turns.insert(number, end);
        if under_way.turns.len() > MAX {
            under_way.turns.pop_first();
        }
        Turn {
            number,
            over,
            handshakes: self.clone(),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when it has to make room.
    pub(super) async fn is_over(&mut self) {
        // nothing is ever sent: the other end is dropped
        let _ = (&mut self.over).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.handshakes.under_way().turns.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room_for_one_too_many() {
        let handshakes = Handshakes::default();
        let mut turns: Vec<_> = (0..MAX).map(|_| handshakes.begin()).collect();
        assert!(turns[0].is_over().now_or_never().is_none());
        turns.remove(7);
        turns.push(handshakes.begin());
        assert!(turns[0].is_over().now_or_never().is_none(), "one had ended");
        turns.push(handshakes.begin());
        turns[0].is_over().await;
        assert!(turns[1].is_over().now_or_never().is_none());
        drop(turns);
        assert!(handshakes.under_way().turns.is_empty());
    }
}
