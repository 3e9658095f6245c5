//! This machine's share of one limit.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use authguardian_proto::rate::{Share, Use};

use super::{
    TRICKLE,
    meter::{Meter, Refused},
};
use crate::clock::Clock;

/// A share that was not used for so long is given back.
const IDLE: Duration = Duration::from_secs(10);
/// Calls are counted over so long at least.
const MEASURED: Duration = Duration::from_millis(150);
/// Looks at a bucket that is just being replaced.
const SPINS: u32 = 10_000;

/// One limit.
#[derive(Debug)]
pub(super) struct Bucket {
    clock: Arc<dyn Clock>,
    share: ArcSwapOption<Held>,
    /// Calls that were tried, ever.
    tried: AtomicU64,
    /// Since boot, nanoseconds: when the next call passes without a lease.
    trickle_ns: AtomicU64,
    asking: Mutex<Asking>,
}

/// A share that is in use.
#[derive(Debug)]
struct Held {
    meter: Meter,
    per_second: f64,
    until: Duration,
}

/// When to ask again, and what for.
#[derive(Debug)]
struct Asking {
    due: Duration,
    /// Nothing was heard; until then nobody hurries.
    not_before: Duration,
    /// Calls tried when it was last counted, and when that was.
    counted: u64,
    counted_at: Duration,
    wanted: f64,
    used_at: Duration,
}

/// Why a call does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// There is no share now.
    Missing,
    /// Too many calls; the next one can come after this.
    Full(Duration),
}

impl Bucket {
    /// Without a share, which is to be asked for at once.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let now = clock.since_boot();
        Self {
            clock,
            share: ArcSwapOption::empty(),
            tried: AtomicU64::new(0),
            trickle_ns: AtomicU64::new(0),
            asking: Mutex::new(Asking {
                due: now,
                not_before: now,
                counted: 0,
                counted_at: now,
                wanted: 0.0,
                used_at: now,
            }),
        }
    }

    /// Whether there is a share.
    pub(super) fn is_leased(&self) -> bool {
        let share = self.share.load();
        share
            .as_ref()
            .is_some_and(|share| self.clock.since_boot() < share.until)
    }

    /// Takes one call.
    pub(super) fn check(&self) -> Result<(), Stop> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        for _ in 0..SPINS {
            let share = self.share.load();
            let Some(share) = share
                .as_ref()
                .filter(|share| self.clock.since_boot() < share.until)
            else {
                return Err(Stop::Missing);
            };
            match share.meter.check() {
                Ok(()) => return Ok(()),
                Err(Refused::Full(wait)) => return Err(Stop::Full(wait)),
                Err(Refused::Stopped) => std::hint::spin_loop(),
            }
        }
        Err(Stop::Missing)
    }

    /// Takes one call without a share: one passes every [`TRICKLE`].
    pub(super) fn trickle(&self) -> Result<(), Stop> {
        let now = nanos(self.clock.since_boot());
        let taken = self
            .trickle_ns
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |next| {
                (next <= now).then(|| now.saturating_add(nanos(TRICKLE)))
            });
        match taken {
            Ok(_) => Ok(()),
            Err(next) => Err(Stop::Full(Duration::from_nanos(next - now))),
        }
    }

    /// Asks as soon as can be. Right after no answer that is no use, and
    /// `false`.
    pub(super) fn hurry(&self, now: Duration) -> bool {
        let mut asking = self.asking();
        if now < asking.not_before {
            return false;
        }
        asking.due = asking.due.min(now);
        true
    }

    /// When to ask again.
    pub(super) fn due(&self) -> Duration {
        self.asking().due
    }

    /// What to ask for; a share that nobody uses is given back, and does not
    /// count from now on.
    pub(super) fn ask(&self, now: Duration) -> Use {
        let mut asking = self.asking();
        let tried = self.tried.load(Ordering::Relaxed);
        if tried > asking.counted {
            asking.used_at = now;
        }
        let span = now.saturating_sub(asking.counted_at);
        if span >= MEASURED {
            let calls = u32::try_from(tried - asking.counted).unwrap_or(u32::MAX);
            let rate = f64::from(calls) / span.as_secs_f64();
            // a pause is not yet the end of a rush
            asking.wanted = rate.max(asking.wanted / 2.0);
            (asking.counted, asking.counted_at) = (tried, now);
        }
        let release = now.saturating_sub(asking.used_at) >= IDLE;
        let live = |share: &Arc<Held>| now < share.until;
        let mut told = Use {
            wanted: asking.wanted,
            release,
            ..Use::default()
        };
        if release {
            let share = self.share.swap(None);
            if let Some(share) = share.filter(live) {
                (told.held, told.tokens) = (share.per_second, share.meter.stop());
            }
        } else if let Some(share) = self.share.load_full().filter(live) {
            (told.held, told.tokens) = (share.per_second, share.meter.tokens());
        }
        told
    }

    /// Takes the share that was asked for at `asked_at`, with what is left in
    /// the bucket of the one before.
    pub(super) fn take(&self, asked_at: Duration, leased: &Share) {
        let now = self.clock.since_boot();
        self.asking().due = now + leased.again;
        let before = self.share.load_full();
        let left = before.as_ref().map_or(0.0, |share| share.meter.stop());
        let live = before.is_some_and(|share| now < share.until);
        let tokens = leased.tokens + if live { left } else { 0.0 };
        let clock = self.clock.clone();
        self.share.store(Some(Arc::new(Held {
            meter: Meter::new(clock, leased.per_second, leased.burst, tokens),
            per_second: leased.per_second,
            until: asked_at + leased.lease,
        })));
    }

    /// Nothing was heard: asks again after this.
    pub(super) fn postpone(&self, now: Duration, pause: Duration) {
        let mut asking = self.asking();
        asking.due = now + pause;
        asking.not_before = asking.due;
    }

    fn asking(&self) -> std::sync::MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
