//! Time that is close to the wall's, and never behind what was heard of.

use serde::{Deserialize, Serialize};

/// A moment of a hybrid logical clock (Kulkarni et al. 2014): milliseconds since
/// 1970 as far as known, then a count of what fell into the same one.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct HybridTime(u64);

/// Bits of the count.
const COUNT: u32 = 16;

impl HybridTime {
    /// Of its milliseconds, up to 2⁴⁸, and its count.
    pub fn new(millis: u64, count: u16) -> Self {
        Self((millis << COUNT) | u64::from(count))
    }

    /// As one number, which orders alike.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads that number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Milliseconds since 1970.
    pub const fn millis(self) -> u64 {
        self.0 >> COUNT
    }

    /// The moment after it; a count that is full goes over into the milliseconds.
    const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Tells moments, each later than all before and than all that it has heard of.
#[derive(Debug, Clone, Default)]
pub struct HybridClock {
    last: HybridTime,
}

impl HybridClock {
    /// How far ahead of its own wall clock what it hears of may be, in milliseconds.
    /// What is further is not followed, or one host with a wrong clock would take all
    /// others along.
    pub const MAX_AHEAD_MILLIS: u64 = 60_000;

    /// One that goes on after a moment.
    pub const fn after(last: HybridTime) -> Self {
        Self { last }
    }

    /// The moment of an event now; `now` is the wall clock's, in milliseconds
    /// since 1970.
    pub fn tick(&mut self, now: u64) -> HybridTime {
        self.last = self.last.next().max(HybridTime::new(now, 0));
        self.last
    }

    /// Hears of a moment; whether it was followed.
    pub fn hear(&mut self, moment: HybridTime, now: u64) -> bool {
        if moment.millis() > now.saturating_add(Self::MAX_AHEAD_MILLIS) {
            return false;
        }
        self.last = self.last.max(moment);
        true
    }

    /// The last moment told or followed.
    pub const fn last(&self) -> HybridTime {
        self.last
    }
}
