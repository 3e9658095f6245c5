//! How the machines that use one limit share it.
//!
//! A machine that asks gets a share: a rate, and a bucket in proportion to it.
//! A share lives for [`LEASE`] and is asked for again each second; then it
//! follows what its machine and the others want, max-min fair: who wants little
//! gets it, the rest is split evenly, and what nobody wants goes to those who
//! want most. One machine alone has all of the limit.
//!
//! A share that shrinks stays counted until its machine says that it keeps to
//! the smaller one (at once) or its lease ends (when it is silent). So the
//! rates in use never exceed the limit, but for the twentieth that newcomers
//! may get meanwhile. Calls are counted like money: a bucket that grows is
//! filled from what nobody holds, which fills at the rate that nobody holds,
//! and a share starts with nothing else; a second small stock, of a twentieth
//! of the limit, is for the first calls of newcomers.
//!
//! With limit `rate` and `burst`, and `n` machines that hold a share, all
//! together let through in **any** `t` seconds at most
//!
//! ```text
//! 1.1 · (burst + rate · t) + n + 1
//! ```
//!
//! calls, however often machines come and go, and `burst + rate · t + n` while
//! none comes: the `n` because every bucket holds one call at least. When the
//! database loses the table of shares (a crash of PostgreSQL, a failover), each
//! machine keeps its share, and for the length of one lease others get what
//! newcomers do; a limit whose first question comes later than that begins with
//! its whole burst, so that one burst more may be let through. A machine whose
//! lease has ended without another lets one call a second through.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::{
    ids::MachineId,
    rate::{RateLimit, Share, Use},
};
use serde::{Deserialize, Serialize};

/// How long a share may be used without being renewed.
pub const LEASE: Duration = Duration::from_secs(5);

/// Between two renewals.
const BEAT: Duration = Duration::from_secs(1);
/// Until a machine that has less than it is to have asks again.
const SOON: Duration = Duration::from_millis(200);
/// Until a machine whose share has shrunk says so.
const CONFIRM: Duration = Duration::from_millis(10);

/// The part of a limit that is for newcomers while others hold all of it.
const RESERVE: f64 = 1.0 / 20.0;
/// Each machine is to have this part of a limit even when it wants nothing.
const LEAST: f64 = 1.0 / 50.0;
/// How much more than it wants each machine is to have.
const HEADROOM: f64 = 1.25;

/// When it is, by the database's clock.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Microseconds since 1970.
    pub now_us: i64,
    /// From when on every share that is in use is known, microseconds since
    /// 1970: in the past, unless the table of shares was lost.
    pub whole_us: i64,
}

/// Who holds which share of one limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shares {
    /// Calls that nobody holds.
    free: f64,
    /// Calls for newcomers.
    reserve: f64,
    /// Until when both were filled, microseconds since 1970.
    filled_us: i64,
    holders: BTreeMap<MachineId, Holder>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Holder {
    /// The most that its machine can be using, calls per second.
    rate: f64,
    /// What it wanted last, calls per second.
    wanted: f64,
    /// When its lease has surely ended, microseconds since 1970.
    until_us: i64,
}

impl Shares {
    /// Nobody holds any.
    pub fn new(limit: RateLimit, time: Time) -> Self {
        let whole = time.whole_us <= time.now_us;
        Self {
            free: if whole { f64::from(limit.burst) } else { 0.0 },
            reserve: reserve_burst(limit),
            filled_us: time.now_us.max(time.whole_us),
            holders: BTreeMap::new(),
        }
    }

    /// Renews, gives or takes back one machine's share.
    pub fn renew(&mut self, limit: RateLimit, time: Time, machine: MachineId, told: Use) -> Share {
        self.pass_time(limit, time.now_us);
        let held = self.held(limit, machine, told.held);
        if told.release {
            self.holders.remove(&machine);
            let left = told.tokens.min(f64::from(burst_of(limit, held)));
            self.free = (self.free + left).min(self.room_for_calls(limit));
            return Share {
                per_second: 0.0,
                burst: 1,
                tokens: 0.0,
                lease: Duration::ZERO,
                again: BEAT,
            };
        }
        let entry = self.holders.entry(machine).or_insert(Holder {
            rate: 0.0,
            wanted: 0.0,
            until_us: 0,
        });
        entry.wanted = told.wanted;
        let target = self.target(limit, machine);
        let granted = self.granted(limit, time, machine, held, target);
        if let Some(entry) = self.holders.get_mut(&machine) {
            // what it holds counts until it has said that it does not any more
            entry.rate = held.max(granted);
            entry.until_us = time.now_us.saturating_add(micros(LEASE));
        }
        let burst = burst_of(limit, granted);
        let tokens = self.fill(limit, f64::from(burst) - told.tokens, told);
        Share {
            per_second: granted,
            burst,
            tokens,
            lease: LEASE,
            again: if granted < held * 0.999 {
                CONFIRM
            } else if granted < target * 0.95 {
                SOON
            } else {
                BEAT
            },
        }
    }

    /// Fills what nobody holds, and forgets the leases that have ended, in the
    /// order in which that happened.
    fn pass_time(&mut self, limit: RateLimit, now_us: i64) {
        loop {
            let first = self
                .holders
                .iter()
                .min_by_key(|(_, holder)| holder.until_us)
                .map(|(machine, holder)| (*machine, holder.until_us));
            match first {
                Some((machine, until_us)) if until_us <= now_us => {
                    self.fill_until(limit, until_us);
                    self.holders.remove(&machine);
                }
                _ => break,
            }
        }
        self.fill_until(limit, now_us);
    }

    fn fill_until(&mut self, limit: RateLimit, until_us: i64) {
        let rate = f64::from(limit.per_second);
        let seconds = seconds(until_us.saturating_sub(self.filled_us));
        let unheld = (rate - self.held_by_others(None)).max(0.0);
        self.free = (self.free + unheld * seconds).min(self.room_for_calls(limit));
        self.reserve = (self.reserve + rate * RESERVE * seconds).min(reserve_burst(limit));
        self.filled_us = self.filled_us.max(until_us);
    }

    /// The share that a machine uses now, calls per second: what it says, but
    /// not more than it was given. One that is not known here was given by a
    /// table that is lost.
    fn held(&mut self, limit: RateLimit, machine: MachineId, told: f64) -> f64 {
        let Some(holder) = self.holders.get_mut(&machine) else {
            let held = told.min(f64::from(limit.per_second));
            if held > 0.0 {
                let holder = Holder {
                    rate: held,
                    wanted: 0.0,
                    until_us: self.filled_us.saturating_add(micros(LEASE)),
                };
                self.holders.insert(machine, holder);
            }
            return held;
        };
        holder.rate = holder.rate.min(told);
        holder.rate
    }

    /// What a machine is to have when all have renewed.
    fn target(&self, limit: RateLimit, machine: MachineId) -> f64 {
        let rate = f64::from(limit.per_second);
        let want = |holder: &Holder| holder.wanted * HEADROOM + rate * LEAST;
        let Some(own) = self.holders.get(&machine).map(want) else {
            return 0.0;
        };
        let mut wants: Vec<f64> = self.holders.values().map(want).collect();
        let total: f64 = wants.iter().sum();
        if total <= rate {
            return own * rate / total;
        }
        wants.sort_unstable_by(f64::total_cmp);
        let (mut left, mut machines) = (rate, f64::from(count(wants.len())));
        for want in wants {
            let even = left / machines;
            if want > even {
                return own.min(even);
            }
            left -= want;
            machines -= 1.0;
        }
        own
    }

    /// What it can have now.
    fn granted(
        &self,
        limit: RateLimit,
        time: Time,
        machine: MachineId,
        held: f64,
        target: f64,
    ) -> f64 {
        let rate = f64::from(limit.per_second);
        let others = self.held_by_others(Some(machine));
        let whole = time.whole_us <= time.now_us;
        let known = if whole { rate } else { 0.0 };
        let room = known - others;
        let for_newcomers = (known + rate * RESERVE - others) / 2.0;
        target.min(room.max(for_newcomers).max(held)).max(0.0)
    }

    /// Takes calls for a bucket in which so many are missing.
    fn fill(&mut self, limit: RateLimit, missing: f64, told: Use) -> f64 {
        let mut given = self.free.min(missing).max(0.0);
        self.free = (self.free - given).min(self.room_for_calls(limit));
        let is_newcomer = told.held <= 0.0 && told.tokens + given < 1.0;
        if is_newcomer && self.reserve >= 1.0 {
            let first = (self.reserve / 2.0).max(1.0).min(missing - given);
            self.reserve -= first;
            given += first;
        }
        given
    }

    /// Calls per second that all but one machine may be using.
    fn held_by_others(&self, machine: Option<MachineId>) -> f64 {
        let others = self.holders.iter().filter(|(id, _)| Some(**id) != machine);
        others.map(|(_, holder)| holder.rate).sum()
    }

    /// Calls that nobody holds, at most.
    fn room_for_calls(&self, limit: RateLimit) -> f64 {
        let held: u64 = self
            .holders
            .values()
            .map(|holder| u64::from(burst_of(limit, holder.rate)))
            .sum();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        f64::from(limit.burst.saturating_sub(held))
    }
}

/// The bucket of a share: in proportion, one call at least.
fn burst_of(limit: RateLimit, rate: f64) -> u32 {
    let part = rate / f64::from(limit.per_second);
    let calls = (f64::from(limit.burst) * part * (1.0 + 1e-9)).floor();
    whole(calls).max(1)
}

fn reserve_burst(limit: RateLimit) -> f64 {
    (f64::from(limit.burst) * RESERVE).max(1.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before"
)]
fn whole(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// A clock that was set back stands still.
fn seconds(span_us: i64) -> f64 {
    Duration::from_micros(u64::try_from(span_us).unwrap_or_default()).as_secs_f64()
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
