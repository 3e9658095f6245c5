//! Time and randomness come in as parameters; nothing else in the crate asks
//! the system for either.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use time::OffsetDateTime;
use uuid::Uuid;

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time, UTC. Never below the persisted floor once that is set.
    fn now(&self) -> OffsetDateTime;

    /// CLOCK_BOOTTIME: grows steadily, also while the machine is suspended.
    /// For durations on one host only.
    fn since_boot(&self) -> Duration;

    /// Time from now on never goes below `floor`.
    fn raise_floor(&self, floor: OffsetDateTime);
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The system's clocks.
#[derive(Debug, Default)]
pub struct SystemClock {
    floor_micros: AtomicI64,
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system"
    )]
    fn now(&self) -> OffsetDateTime {
        let now = micros(OffsetDateTime::now_utc());
        from_micros(now.max(self.floor_micros.load(Ordering::Relaxed)))
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }

    fn raise_floor(&self, floor: OffsetDateTime) {
        self.floor_micros
            .fetch_max(micros(floor), Ordering::Relaxed);
    }
}

/// A clock that tests move.
#[derive(Debug)]
pub struct ManualClock {
    micros: AtomicI64,
    boot_micros: AtomicI64,
}

impl ManualClock {
    /// Starts at a wall-clock time; since-boot starts at one hour.
    pub fn at(start: OffsetDateTime) -> Self {
        Self {
            micros: AtomicI64::new(micros(start)),
            boot_micros: AtomicI64::new(3_600_000_000),
        }
    }

    /// Moves both clocks on.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.micros.fetch_add(by, Ordering::Relaxed);
        self.boot_micros.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        from_micros(self.micros.load(Ordering::Relaxed))
    }

    fn since_boot(&self) -> Duration {
        Duration::from_micros(self.boot_micros.load(Ordering::Relaxed).unsigned_abs())
    }

    fn raise_floor(&self, floor: OffsetDateTime) {
        self.micros.fetch_max(micros(floor), Ordering::Relaxed);
    }
}

/// A source of randomness for ids, nonces, seeds and jitter: ChaCha seeded
/// from the system, or from a number in tests.
pub struct Entropy(Mutex<StdRng>);

impl Entropy {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system"
    )]
    pub fn from_system() -> Result<Self, rand::rngs::SysError> {
        Ok(Self(Mutex::new(StdRng::try_from_rng(
            &mut rand::rngs::SysRng,
        )?)))
    }

    /// The same numbers for the same seed.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut bytes);
        bytes
    }

    /// A UUIDv7 (RFC 9562) of the given time, so that ids sort by age.
    pub fn uuid(&self, now: OffsetDateTime) -> Uuid {
        let millis = u64::try_from(micros(now) / 1000).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid()
    }

    /// A factor between 0.8 and 1.2, to spread what would happen all at once.
    pub fn jitter(&self) -> f64 {
        0.8 + 0.4 * f64::from(u32::from_le_bytes(self.bytes())) / f64::from(u32::MAX)
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

/// Time and randomness together, as services take them.
#[derive(Clone, Debug)]
pub struct Ambient {
    /// Where time comes from.
    pub clock: SharedClock,
    /// Where randomness comes from.
    pub entropy: Arc<Entropy>,
}

impl Ambient {
    /// A UUIDv7 of now.
    pub fn uuid(&self) -> Uuid {
        self.entropy.uuid(self.clock.now())
    }
}

fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or(i64::MAX)
}

/// PostgreSQL keeps microseconds; what is compared with it must not be finer.
fn from_micros(micros: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_below_its_floor() {
        let clock = SystemClock::default();
        let future = clock.now() + Duration::from_hours(1);
        clock.raise_floor(future);
        assert_eq!(clock.now(), future);
        clock.raise_floor(future - Duration::from_mins(1));
        assert_eq!(clock.now(), future);
    }

    #[test]
    fn ids_sort_by_age() {
        let entropy = Entropy::from_seed(1);
        let early = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1);
        assert!(entropy.uuid(early) < entropy.uuid(early + Duration::from_millis(1)));
    }
}
