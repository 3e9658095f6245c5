//! Time and randomness come in as parameters; nothing else in the crate asks
//! the system for either.

use std::{
    fmt, fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Where Linux tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot of the machine this is: times since another one cannot be compared with
/// those since this one.
///
/// # Errors
/// When the system does not tell.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// A source of time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time, UTC.
    fn now(&self) -> OffsetDateTime;

    /// CLOCK_BOOTTIME: grows steadily, also while the machine is suspended,
    /// so that a laptop that slept does not look fresh.
    fn since_boot(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the system"
    )]
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// A source of randomness for request ids and jitter: ChaCha seeded from the
/// system, or from a number in tests.
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

    /// Random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .fill_bytes(&mut bytes);
        bytes
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
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<Entropy>,
}

impl Ambient {
    /// The system's clocks and randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn system() -> Result<Self, rand::rngs::SysError> {
        Ok(Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Entropy::from_system()?),
        })
    }

    /// A UUIDv7 (RFC 9562) of now.
    pub fn uuid(&self) -> Uuid {
        let millis = self.clock.now().unix_timestamp_nanos() / 1_000_000;
        let millis = u64::try_from(millis).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &self.entropy.bytes()).into_uuid()
    }

    /// A random part of `span`, so that many edges spread over it.
    pub fn part_of(&self, span: Duration) -> Duration {
        span.mul_f64(self.share())
    }

    /// `around`, give or take a fifth, so that many edges do not act at once.
    pub fn jittered(&self, around: Duration) -> Duration {
        around.mul_f64(0.8 + 0.4 * self.share())
    }

    /// From 0 to 1.
    fn share(&self) -> f64 {
        f64::from(u32::from_le_bytes(self.entropy.bytes())) / f64::from(u32::MAX)
    }
}

/// A message's time as RFC 3339 in UTC, whole seconds where the time is whole.
pub fn rfc3339(timestamp: Option<prost_types::Timestamp>) -> Option<String> {
    let timestamp = timestamp?;
    let nanos = i128::from(timestamp.seconds) * 1_000_000_000 + i128::from(timestamp.nanos);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()?
        .format(&Rfc3339)
        .ok()
}

#[cfg(test)]
pub(crate) mod manual {
    //! A clock that tests move.

    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Ambient, Arc, Clock, Duration, Entropy, OffsetDateTime};

    /// Starts one hour after boot and at 2026-01-01.
    #[derive(Debug)]
    pub(crate) struct ManualClock(AtomicU64);

    impl ManualClock {
        pub(crate) fn ambient() -> (Arc<Self>, Ambient) {
            let clock = Arc::new(Self(AtomicU64::new(3_600_000)));
            let entropy = Arc::new(Entropy::from_seed(1));
            (clock.clone(), Ambient { clock, entropy })
        }

        pub(crate) fn advance(&self, by: Duration) {
            self.0
                .fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> OffsetDateTime {
            time::macros::datetime!(2026-01-01 0:00 UTC) + self.since_boot()
        }

        fn since_boot(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_fifth() {
        let (_, ambient) = manual::ManualClock::ambient();
        for _ in 0..100 {
            let jittered = ambient.jittered(Duration::from_secs(10));
            assert!((Duration::from_secs(8)..=Duration::from_secs(12)).contains(&jittered));
        }
    }
}
