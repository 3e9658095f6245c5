//! How many of something there may be, in all and with each key: requests under
//! way, sessions.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use authguardian_proto::{
    ids::{ApiKeyId, MachineId},
    reason::{Problem, Reason},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::config::Limits;

/// With more keys than this, those that are not in use are forgotten before one
/// is added.
const SWEEP_ABOVE: usize = 1024;

/// Most requests under way of one other machine.
const MAX_REQUESTS_OF_MACHINE: u32 = 256;

/// The places for them.
pub(super) struct Bound<K = ApiKeyId> {
    /// In words, in the plural.
    what: &'static str,
    /// Likewise, who has the key.
    whose: &'static str,
    places: Arc<Semaphore>,
    max_per_key: u32,
    by_key: papaya::HashMap<K, Arc<AtomicU32>>,
}

/// A key's place, given back when dropped.
pub(super) struct OfKey(Arc<AtomicU32>);

/// Both places of something that lives for longer than a request.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_key: OfKey,
}

impl Bound {
    /// Requests under way.
    pub(super) fn of_requests(limits: &Limits) -> Arc<Self> {
        Self::new(
            "requests under way",
            "this API key",
            limits.max_requests,
            limits.max_requests_per_key,
        )
    }

    /// MCP sessions and streams of events.
    pub(super) fn of_sessions(limits: &Limits) -> Arc<Self> {
        Self::new(
            "sessions and streams",
            "this API key",
            limits.max_sessions,
            limits.max_sessions_per_key,
        )
    }
}

impl Bound<MachineId> {
    /// Requests of other machines under way.
    pub(super) fn of_machines(limits: &Limits) -> Arc<Self> {
        Self::new(
            "requests under way",
            "this machine",
            limits.max_requests,
            MAX_REQUESTS_OF_MACHINE,
        )
    }
}

impl<K: Copy + Eq + Hash> Bound<K> {
    fn new(what: &'static str, whose: &'static str, max: u32, max_per_key: u32) -> Arc<Self> {
        let places = usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            what,
            whose,
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            max_per_key,
            by_key: papaya::HashMap::new(),
        })
    }

    /// A place, before it is known for whom.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.places
            .try_acquire()
            .map_err(|_| self.full("this edge"))
    }

    /// Both places at once, to be kept.
    pub(super) fn enter_to_stay(&self, key: K) -> Result<Place, Problem> {
        let of_all = self.places.clone().try_acquire_owned();
        Ok(Place {
            _of_all: of_all.map_err(|_| self.full("this edge"))?,
            _of_key: self.enter_with(key)?,
        })
    }

    /// A place among those of its key.
    pub(super) fn enter_with(&self, key: K) -> Result<OfKey, Problem> {
        let by_key = self.by_key.pin();
        let count = by_key.get(&key).cloned().unwrap_or_else(|| {
            if by_key.len() > SWEEP_ABOVE {
                // one that is entered meanwhile is counted anew: a bound on memory costs that
                by_key.retain(|_, count| Arc::strong_count(count) > 1);
            }
            by_key.get_or_insert_with(key, Arc::default).clone()
        });
        // given back on every way out
        let place = OfKey(count);
        if place.0.fetch_add(1, Ordering::Relaxed) >= self.max_per_key {
            return Err(self.full(self.whose));
        }
        Ok(place)
    }

    fn full(&self, who: &str) -> Problem {
        let detail = format!("{who} has too many {}; try again later", self.what);
        Problem::new(Reason::ResourceExhausted, detail)
    }
}

impl Drop for OfKey {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn bound() -> Arc<Bound> {
        Bound::new("things", "this API key", 3, 2)
    }

    #[test]
    fn one_more_than_the_bound_is_refused_until_another_has_ended() {
        let bound = bound();
        let mut places: Vec<_> = (0..3).map(|_| bound.enter().unwrap()).collect();
        let refused = bound.enter().unwrap_err();
        assert_eq!(refused.reason, Reason::ResourceExhausted);
        places.pop();
        assert!(bound.enter().is_ok());
    }

    #[test]
    fn what_stays_takes_the_same_places() {
        let bound = bound();
        let first = bound.enter_to_stay(key(1)).map_err(|_| ()).unwrap();
        let _second = bound.enter_to_stay(key(1)).map_err(|_| ()).unwrap();
        assert!(bound.enter_to_stay(key(1)).is_err(), "of the key");
        let _third = bound.enter().unwrap();
        assert!(bound.enter_to_stay(key(2)).is_err(), "of all");
        drop(first);
        assert!(bound.enter_to_stay(key(2)).is_ok());
    }

    #[test]
    fn one_key_does_not_take_the_places_of_others() {
        let bound = bound();
        let first = bound.enter_with(key(1)).unwrap();
        let _second = bound.enter_with(key(1)).unwrap();
        for _ in 0..3 {
            let refused = bound.enter_with(key(1)).map(|_| ()).unwrap_err();
            assert_eq!(refused.reason, Reason::ResourceExhausted);
        }
        let _other = bound.enter_with(key(2)).unwrap();
        drop(first);
        assert!(bound.enter_with(key(1)).is_ok());
    }

    #[test]
    fn keys_that_are_not_in_use_are_forgotten() {
        let bound = bound();
        let _kept = bound.enter_with(key(0)).unwrap();
        for number in 1..=SWEEP_ABOVE as u128 + 1 {
            drop(bound.enter_with(key(number)));
        }
        assert!(bound.by_key.len() <= 2);
        let _second = bound.enter_with(key(0)).unwrap();
        assert!(bound.enter_with(key(0)).is_err(), "still counted");
    }
}
