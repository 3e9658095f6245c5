//! A bucket that fills steadily, kept by GCRA: crate `governor` with a state
//! of ours, so that a bucket can begin with the calls that another one had
//! left, and be stopped for good.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock as Clocked,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};

use crate::clock::Clock;

/// No call before this: the bucket is stopped.
const NEVER: u64 = u64::MAX;

/// A bucket. A check takes no lock.
#[derive(Debug)]
pub(super) struct Meter {
    limiter: RateLimiter<NotKeyed, Shared, Shared, NoOpMiddleware<Nanos>>,
    state: Arc<State>,
    /// Until one call more is in it, nanoseconds.
    interval_ns: u64,
    burst: u32,
}

/// The theoretical arrival time of the next call if none was ever early:
/// the fuller the bucket, the earlier.
#[derive(Debug)]
struct State {
    clock: Arc<dyn Clock>,
    /// When the limiter began, nanoseconds since boot: it counts from there.
    began_ns: OnceLock<u64>,
    /// Nanoseconds since boot.
    arrival_ns: AtomicU64,
}

/// The state and the clock of one limiter.
#[derive(Debug)]
struct Shared(Arc<State>);

/// Why a call has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many calls; the next one can come after this.
    Full(Duration),
    /// The bucket was stopped; another one is coming.
    Stopped,
}

impl Meter {
    /// A bucket of `burst` calls that fills at `per_second` and has `tokens`
    /// now. A rate that is not positive never fills it.
    pub(super) fn new(clock: Arc<dyn Clock>, per_second: f64, burst: u32, tokens: f64) -> Self {
        let interval_ns = interval_ns(per_second);
        let burst = burst.max(1);
        let missing = (f64::from(burst) - tokens).clamp(0.0, f64::from(burst));
        let state = Arc::new(State {
            arrival_ns: AtomicU64::new(0),
            began_ns: OnceLock::new(),
            clock,
        });
        let quota = Quota::with_period(Duration::from_nanos(interval_ns))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        let limiter = RateLimiter::new(quota, Shared(state.clone()), Shared(state.clone()));
        let filled_in = Duration::from_nanos(interval_ns).mul_f64(missing);
        let arrival = state.now_ns().saturating_add(nanos(filled_in));
        state.arrival_ns.store(arrival, Ordering::Release);
        Self {
            limiter,
            state,
            interval_ns,
            burst,
        }
    }

    /// Takes one call out.
    pub(super) fn check(&self) -> Result<(), Refused> {
        self.limiter.check().map_err(|not_until| {
            if self.state.arrival_ns.load(Ordering::Acquire) == NEVER {
                Refused::Stopped
            } else {
                Refused::Full(not_until.wait_time_from(self.limiter.clock().now()))
            }
        })
    }

    /// Calls that are in it.
    pub(super) fn tokens(&self) -> f64 {
        self.tokens_of(self.state.arrival_ns.load(Ordering::Acquire))
    }

    /// Lets no call through any more; returns what was left.
    pub(super) fn stop(&self) -> f64 {
        self.tokens_of(self.state.arrival_ns.swap(NEVER, Ordering::AcqRel))
    }

    fn tokens_of(&self, arrival_ns: u64) -> f64 {
        let filled_in = Duration::from_nanos(arrival_ns.saturating_sub(self.state.now_ns()));
        let missing =
            filled_in.as_secs_f64() / Duration::from_nanos(self.interval_ns).as_secs_f64();
        (f64::from(self.burst) - missing).max(0.0)
    }
}

impl State {
    fn now_ns(&self) -> u64 {
        nanos(self.clock.since_boot())
    }

    fn began_ns(&self) -> u64 {
        *self.began_ns.get_or_init(|| self.now_ns())
    }
}

impl Clocked for Shared {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        // the first reading is the one that the limiter begins with
        match self.0.began_ns.get() {
            Some(_) => Nanos::from(self.0.now_ns()),
            None => Nanos::from(self.0.began_ns()),
        }
    }
}

impl StateStore for Shared {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Self(state) = self;
        let began_ns = state.began_ns();
        let mut arrival_ns = state.arrival_ns.load(Ordering::Acquire);
        loop {
            let since_began = arrival_ns.saturating_sub(began_ns);
            let (outcome, next) = decide(Some(Nanos::from(since_began)))?;
            let next_ns = began_ns.saturating_add(next.as_u64());
            let replaced = state.arrival_ns.compare_exchange_weak(
                arrival_ns,
                next_ns,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match replaced {
                Ok(_) => return Ok(outcome),
                Err(now) => arrival_ns = now,
            }
        }
    }
}

/// Rounded up, so that a bucket never fills faster than it is to.
fn interval_ns(per_second: f64) -> u64 {
    // a year: far longer than any lease
    const SLOWEST: f64 = 31_536_000.0;
    let seconds = (1.0 / per_second.max(1e-9)).min(SLOWEST);
    nanos(Duration::from_secs_f64(seconds)).saturating_add(1)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::manual::ManualClock;

    fn meter(per_second: f64, burst: u32, tokens: f64) -> (Arc<ManualClock>, Meter) {
        let (clock, ambient) = ManualClock::ambient();
        (clock, Meter::new(ambient.clock, per_second, burst, tokens))
    }

    fn passed(meter: &Meter, tried: usize) -> usize {
        (0..tried).filter(|_| meter.check().is_ok()).count()
    }

    #[test]
    fn a_full_bucket_passes_its_burst_and_then_its_rate() {
        let (clock, meter) = meter(10.0, 20, 20.0);
        assert_eq!(passed(&meter, 100), 20);
        match meter.check() {
            Err(Refused::Full(wait)) => {
                assert!(wait > Duration::from_millis(99) && wait < Duration::from_millis(101));
            }
            other => panic!("{other:?}"),
        }
        clock.advance(Duration::from_millis(1001));
        assert_eq!(passed(&meter, 100), 10);
        clock.advance(Duration::from_mins(1));
        assert_eq!(passed(&meter, 100), 20);
    }

    #[test]
    fn a_bucket_begins_with_what_another_had_left() {
        let (clock, first) = meter(10.0, 20, 20.0);
        assert_eq!(passed(&first, 13), 13);
        clock.advance(Duration::from_millis(50));
        let left = first.stop();
        assert!((left - 7.5).abs() < 0.01, "{left}");
        assert_eq!(first.check(), Err(Refused::Stopped));
        let second = Meter::new(first.state.clock.clone(), 1.0, 5, left);
        assert!((second.tokens() - 5.0).abs() < 0.01, "it holds no more");
        let third = Meter::new(first.state.clock.clone(), 1.0, 50, left);
        assert_eq!(passed(&third, 100), 7);
        clock.advance(Duration::from_millis(501));
        assert_eq!(passed(&third, 100), 1);
    }

    #[test]
    fn a_bucket_without_a_rate_stays_as_it_is() {
        for rate in [0.0, -1.0, f64::MIN_POSITIVE] {
            let (clock, meter) = meter(rate, 3, 1.0);
            assert_eq!(passed(&meter, 10), 1);
            clock.advance(Duration::from_hours(1));
            assert_eq!(passed(&meter, 10), 0);
        }
    }

    #[test]
    fn threads_take_no_call_twice() {
        let (_, meter) = meter(1e-3, 10_000, 10_000.0);
        let all: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| passed(&meter, 5_000)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(all, 10_000);
    }
}
