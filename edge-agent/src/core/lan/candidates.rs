//! Edges that somebody has announced, and when each is asked next.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use authguardian_proto::ids::MachineId;

/// Most announcements that are kept.
const MAX: usize = 256;
/// After an edge was not heard, doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);

/// An announced edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    machine: MachineId,
    records: u64,
    addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Kept {
    candidate: Candidate,
    /// Since boot.
    ask_at: Duration,
    is_being_asked: bool,
    failures: u32,
    /// Whether it has shown once that it is who it says.
    is_proved: bool,
    /// Somebody has said goodbye in its name.
    is_lost: bool,
}

/// Those that are kept, by the names of their announcements.
#[derive(Debug, Default)]
pub(super) struct Candidates(HashMap<String, Kept>);

impl Candidate {
    pub(super) fn new(machine: MachineId, records: u64, addresses: Vec<SocketAddr>) -> Self {
        Self {
            machine,
            records,
            addresses,
        }
    }

    pub(super) fn machine(&self) -> MachineId {
        self.machine
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Candidates {
    /// Notes an announcement; one that says something new is asked at once. An edge
    /// that has proved to be one is not given up for one that has not. Whether there
    /// was room.
    pub(super) fn hear(&mut self, name: String, candidate: Candidate) -> bool {
        if let Some(kept) = self.0.get_mut(&name) {
            kept.is_lost = false;
            if kept.candidate != candidate {
                kept.is_proved &= kept.candidate.machine == candidate.machine;
                kept.candidate = candidate;
                kept.ask_at = Duration::ZERO;
            }
            return true;
        }
        if self.0.len() >= MAX {
            let unproved = self.0.iter().filter(|(_, kept)| !kept.is_proved);
            let worst = unproved.max_by_key(|(_, kept)| kept.failures);
            let Some(worst) = worst.map(|(name, _)| name.clone()) else {
                return false;
            };
            self.0.remove(&worst);
        }
        let kept = Kept {
            candidate,
            ask_at: Duration::ZERO,
            is_being_asked: false,
            failures: 0,
            is_proved: false,
            is_lost: false,
        };
        self.0.insert(name, kept);
        true
    }

    /// Somebody says that it has left: it is asked once more, since anybody can say that.
    pub(super) fn lost(&mut self, name: &str) {
        if let Some(kept) = self.0.get_mut(name) {
            kept.is_lost = true;
            kept.ask_at = Duration::ZERO;
        }
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self, now: Duration) -> Option<(String, Candidate)> {
        let waiting = self.0.iter_mut();
        let due = waiting.filter(|(_, kept)| !kept.is_being_asked && kept.ask_at <= now);
        let (name, kept) = due.min_by_key(|(_, kept)| kept.ask_at)?;
        kept.is_being_asked = true;
        // what is announced meanwhile is asked for once more
        kept.ask_at = Duration::MAX;
        Some((name.clone(), kept.candidate.clone()))
    }

    /// It was asked, and heard or not; the next time is after this pause.
    pub(super) fn asked(&mut self, name: &str, heard: bool, now: Duration, pause: Duration) {
        let Some(kept) = self.0.get_mut(name) else {
            return;
        };
        kept.is_being_asked = false;
        if !heard && kept.is_lost {
            self.0.remove(name);
            return;
        }
        kept.is_proved |= heard;
        kept.failures = if heard { 0 } else { kept.failures + 1 };
        let wait = match kept.failures {
            0 => pause,
            failures => (RETRY_MIN * 2_u32.saturating_pow(failures - 1)).min(RETRY_MAX),
        };
        kept.ask_at = kept.ask_at.min(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::testing::machine;

    const PAUSE: Duration = Duration::from_secs(5);

    fn candidate(number: u128, records: u64) -> Candidate {
        Candidate::new(
            machine(number),
            records,
            vec!["10.0.0.1:1".parse().unwrap()],
        )
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_edge_is_asked_at_once_then_again_and_again_and_when_it_has_other_records() {
        let mut candidates = Candidates::default();
        assert!(candidates.hear("a".into(), candidate(1, 1)));
        let (name, asked) = candidates.next(seconds(100)).unwrap();
        assert_eq!((name.as_str(), asked.machine()), ("a", machine(1)));
        assert!(candidates.next(seconds(200)).is_none(), "it is being asked");
        candidates.asked("a", true, seconds(100), PAUSE);
        candidates.hear("a".into(), candidate(1, 1));
        assert!(candidates.next(seconds(104)).is_none(), "nothing is new");
        assert!(candidates.next(seconds(105)).is_some());
        candidates.hear("a".into(), candidate(1, 2));
        candidates.asked("a", true, seconds(105), PAUSE);
        assert!(candidates.next(seconds(105)).is_some(), "new meanwhile");
    }

    #[test]
    fn one_that_is_not_heard_is_asked_less_and_less() {
        let mut candidates = Candidates::default();
        candidates.hear("a".into(), candidate(1, 1));
        let mut now = seconds(100);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(candidates.next(now).is_some());
            candidates.asked("a", false, now, PAUSE);
            now += seconds(wait);
            let early = now.saturating_sub(Duration::from_millis(1));
            assert!(candidates.next(early).is_none());
        }
    }

    #[test]
    fn a_goodbye_counts_when_nobody_answers() {
        let mut candidates = Candidates::default();
        candidates.hear("a".into(), candidate(1, 1));
        candidates.next(seconds(1));
        candidates.asked("a", true, seconds(1), PAUSE);
        for heard in [true, false] {
            candidates.lost("a");
            assert!(candidates.next(seconds(2)).is_some());
            candidates.asked("a", heard, seconds(2), PAUSE);
        }
        assert!(candidates.0.is_empty());
    }

    #[test]
    fn inventions_do_not_drive_out_who_has_proved_to_be_there() {
        let mut candidates = Candidates::default();
        candidates.hear("good".into(), candidate(1, 1));
        candidates.next(seconds(1));
        candidates.asked("good", true, seconds(1), PAUSE);
        for number in 0..2 * MAX {
            candidates.hear(format!("bad {number}"), candidate(2, 1));
        }
        assert_eq!(candidates.0.len(), MAX);
        assert!(candidates.0.contains_key("good"));
    }
}
