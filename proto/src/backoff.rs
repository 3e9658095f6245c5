//! Holding off whoever shows wrong credentials again and again: after a few
//! wrong ones a source has to wait, and twice as long after each further one.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_mins(1);
/// One wrong credential is forgiven after each such span of peace.
const FORGIVEN_IN: Duration = Duration::from_mins(1);

/// Wrong credentials by source. It has no clock and no randomness of its own;
/// times are durations since any fixed moment.
///
/// Memory is bounded: entries live in two generations, and when the younger
/// one is full, the elder one is dropped. So whoever can use ever new sources
/// can make it forget; sources are to be what cannot be chosen freely, such as
/// an address.
#[derive(Debug)]
pub struct Backoff<S> {
    free: u32,
    capacity: usize,
    young: HashMap<S, Failures>,
    old: HashMap<S, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    /// When the last one was, or one was forgiven last.
    at: Duration,
    held_until: Duration,
}

impl<S: Hash + Eq + Clone> Backoff<S> {
    /// The first `free` wrong credentials of a source cost no wait; it keeps
    /// `capacity` to twice as many sources.
    pub fn new(free: u32, capacity: usize) -> Self {
        Self {
            free,
            capacity: capacity.max(1),
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// Whether a source may try now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, source: &S, now: Duration) -> Result<(), Duration> {
        match self.known(source) {
            Some(failures) if now < failures.held_until => {
                Err(failures.held_until.saturating_sub(now))
            }
            _ => Ok(()),
        }
    }

    /// A source has shown a wrong credential.
    pub fn failed(&mut self, source: &S, now: Duration) {
        let before = self.known(source).map(|failures| failures.forgiven(now));
        let count = before
            .map_or(0, |failures| failures.count)
            .saturating_add(1);
        let wait = match count.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(beyond) => FIRST
                .saturating_mul(1_u32.checked_shl(beyond - 1).unwrap_or(u32::MAX))
                .min(LONGEST),
        };
        let failures = Failures {
            count,
            at: now,
            held_until: now + wait,
        };
        self.old.remove(source);
        self.young.insert(source.clone(), failures);
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// A source has shown a right credential: it begins anew.
    pub fn succeeded(&mut self, source: &S) {
        self.young.remove(source);
        self.old.remove(source);
    }

    fn known(&self, source: &S) -> Option<&Failures> {
        self.young.get(source).or_else(|| self.old.get(source))
    }
}

/// What addresses are told apart by: a host chooses the last 64 bits of its
/// IPv6 address freely (RFC 4291 §2.5.4).
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

impl Failures {
    fn forgiven(self, now: Duration) -> Self {
        let peace = now.saturating_sub(self.held_until.max(self.at));
        let forgiven = peace.as_secs() / FORGIVEN_IN.as_secs();
        Self {
            count: self
                .count
                .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waits_begin_after_some_wrong_credentials_and_double_up_to_a_minute() {
        let mut backoff = Backoff::new(3, 10);
        let mut now = seconds(100);
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert_eq!(backoff.check(&"here", now), Ok(()));
            backoff.failed(&"here", now);
            let wait = backoff.check(&"here", now).err().unwrap_or_default();
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(
            backoff.check(&"there", now),
            Ok(()),
            "others are not held up"
        );
    }

    #[test]
    fn a_right_credential_and_time_forgive() {
        let mut backoff = Backoff::new(1, 10);
        let now = seconds(0);
        for _ in 0..4 {
            backoff.failed(&"here", now);
        }
        assert_eq!(backoff.check(&"here", now), Err(seconds(4)));
        let later = seconds(4 + 2 * 60);
        backoff.failed(&"here", later);
        assert_eq!(
            backoff.check(&"here", later),
            Err(seconds(2)),
            "two are forgiven"
        );
        backoff.succeeded(&"here");
        assert_eq!(backoff.check(&"here", later), Ok(()));
        backoff.failed(&"here", later);
        assert_eq!(backoff.check(&"here", later), Ok(()), "it began anew");
    }

    #[test]
    fn a_host_is_one_source_whatever_address_it_takes() {
        let of = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("192.0.2.8"), "192.0.2.8");
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_no_wait_longer_than_a_minute(
            tries in prop::collection::vec((0_u16..500, 0_u64..30), 0..600),
        ) {
            let mut backoff = Backoff::new(2, 50);
            let mut now = Duration::ZERO;
            for (source, pause) in tries {
                now += seconds(pause);
                backoff.failed(&source, now);
                prop_assert!(backoff.check(&source, now).err().unwrap_or_default() <= LONGEST);
                prop_assert!(backoff.young.len() + backoff.old.len() <= 100);
            }
        }
    }
}
