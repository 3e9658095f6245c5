//! How many requests are under way, in all and with each key.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use authguardian_proto::{
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Limits;

/// With more keys than this, those that are not in use are forgotten before one
/// is added.
const SWEEP_ABOVE: usize = 1024;

/// The requests under way.
pub(super) struct InFlight {
    places: Semaphore,
    max_per_key: u32,
    by_key: papaya::HashMap<ApiKeyId, Arc<AtomicU32>>,
}

/// A key's place, given back when dropped.
pub(super) struct OfKey(Arc<AtomicU32>);

impl InFlight {
    pub(super) fn new(limits: &Limits) -> Self {
        let places = usize::try_from(limits.max_requests).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Semaphore::new(places.min(Semaphore::MAX_PERMITS)),
            max_per_key: limits.max_requests_per_key,
            by_key: papaya::HashMap::new(),
        }
    }

    /// A place for a request, before anything is known of it.
    pub(super) fn enter(&self) -> Result<SemaphorePermit<'_>, Problem> {
        self.places.try_acquire().map_err(|_| {
            let detail = "this edge has too many requests under way; try again later";
            Problem::new(Reason::ResourceExhausted, detail)
        })
    }

    /// A place among those of its key.
    pub(super) fn enter_with(&self, key: ApiKeyId) -> Result<OfKey, Problem> {
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
            let detail = "this API key has too many requests under way; try again later";
            return Err(Problem::new(Reason::ResourceExhausted, detail));
        }
        Ok(place)
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

    fn in_flight() -> InFlight {
        InFlight::new(&Limits {
            max_requests: 3,
            max_requests_per_key: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn one_more_than_the_bound_is_refused_until_another_has_ended() {
        let in_flight = in_flight();
        let mut places: Vec<_> = (0..3).map(|_| in_flight.enter().unwrap()).collect();
        let refused = in_flight.enter().unwrap_err();
        assert_eq!(refused.reason, Reason::ResourceExhausted);
        places.pop();
        assert!(in_flight.enter().is_ok());
    }

    #[test]
    fn one_key_does_not_take_the_places_of_others() {
        let in_flight = in_flight();
        let first = in_flight.enter_with(key(1)).unwrap();
        let _second = in_flight.enter_with(key(1)).unwrap();
        for _ in 0..3 {
            let refused = in_flight.enter_with(key(1)).map(|_| ()).unwrap_err();
            assert_eq!(refused.reason, Reason::ResourceExhausted);
        }
        let _other = in_flight.enter_with(key(2)).unwrap();
        drop(first);
        assert!(in_flight.enter_with(key(1)).is_ok());
    }

    #[test]
    fn keys_that_are_not_in_use_are_forgotten() {
        let in_flight = in_flight();
        let _kept = in_flight.enter_with(key(0)).unwrap();
        for number in 1..=SWEEP_ABOVE as u128 + 1 {
            drop(in_flight.enter_with(key(number)));
        }
        assert!(in_flight.by_key.len() <= 2);
        let _second = in_flight.enter_with(key(0)).unwrap();
        assert!(in_flight.enter_with(key(0)).is_err(), "still counted");
    }
}
