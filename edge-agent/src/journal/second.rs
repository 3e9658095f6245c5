//! The calls of one second, of which not each one is written by itself.

use std::collections::HashMap;

use super::call::{Call, Noted};

/// So many calls of a second are written at once, each; further ones are counted, and
/// written by kind when it is over.
pub(super) const AT_ONCE: u32 = 1000;

/// Most different calls of a second; further ones are counted together.
pub(super) const DISTINCT: usize = 4096;

/// The calls of one second.
#[derive(Debug, Default)]
pub(super) struct Second {
    /// Which it is, since boot.
    number: u64,
    /// How many were to be written at once.
    at_once: u32,
    /// How many of each kind are not written.
    unwritten: HashMap<Noted, u64>,
}

impl Second {
    /// Which it is, since boot.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Another one begins. Nothing is to be left of this one.
    pub(super) fn begin(&mut self, number: u64) {
        (self.number, self.at_once) = (number, 0);
        self.unwritten.clear();
    }

    /// Takes a call; what is to be written at once.
    pub(super) fn take(&mut self, call: Call) -> Option<Noted> {
        let mut noted = Some(call);
        if self.unwritten.len() >= DISTINCT && !self.unwritten.contains_key(&noted) {
            noted = None;
        }
        if self.at_once < AT_ONCE {
            self.at_once += 1;
            self.unwritten.entry(noted.clone()).or_default();
            return Some(noted);
        }
        *self.unwritten.entry(noted).or_default() += 1;
        None
    }

    /// What was not written at once, to be written now.
    pub(super) fn drain(&mut self) -> Vec<(Noted, u64)> {
        let unwritten = self.unwritten.iter_mut().filter(|(_, count)| **count > 0);
        unwritten
            .map(|(noted, count)| (noted.clone(), std::mem::take(count)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::call, *};

    #[test]
    fn repeats_beyond_the_first_are_told_once_by_kind() {
        let mut second = Second::default();
        let repeats = u64::from(AT_ONCE) + 50;
        let written = (0..repeats).filter_map(|_| second.take(call(1))).count();
        assert_eq!(written, usize::try_from(AT_ONCE).unwrap());
        assert_eq!(second.take(call(2)), None);
        let mut unwritten = second.drain();
        unwritten.sort_by_key(|(_, count)| *count);
        assert_eq!(unwritten, [(Some(call(2)), 1), (Some(call(1)), 50)]);
        assert!(second.drain().is_empty());
    }

    #[test]
    fn of_too_many_kinds_the_last_are_one() {
        let mut second = Second::default();
        for port in 0..u16::try_from(DISTINCT).unwrap() + 10 {
            second.take(call(port));
        }
        second.take(call(1));
        let unwritten = second.drain();
        let beyond = unwritten.iter().find(|(noted, _)| noted.is_none());
        assert_eq!(beyond, Some(&(None, 10)));
        let all: u64 = unwritten.iter().map(|(_, count)| count).sum();
        assert_eq!(
            all,
            u64::try_from(DISTINCT).unwrap() + 11 - u64::from(AT_ONCE)
        );
    }
}
