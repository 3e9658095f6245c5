//! The newest events, shared by all who read them.

use std::{collections::VecDeque, sync::Arc};

use authguardian_proto::grant_token::Rev;

use super::Event;

/// Before any change.
const BEFORE_ALL: Rev = Rev {
    epoch: 0,
    revision: 0,
};

/// A bounded log in memory. Every event has a number, which never comes again; a
/// reader holds the number of the next one that it wants.
#[derive(Debug)]
pub(super) struct Ring {
    capacity: usize,
    entries: VecDeque<Entry>,
    /// Number of the oldest entry.
    first: u64,
    /// The first number since changes were missed.
    begun_at: u64,
    known: Option<Known>,
}

/// Every change after `begin` and up to `head` is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) begin: Rev,
    pub(super) head: Rev,
}

#[derive(Debug)]
struct Entry {
    /// Its position; of an event without one, that of the change before it.
    at: Rev,
    event: Arc<Event>,
}

/// Where a position is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The number of the event after it.
    Next(u64),
    /// What follows it is partly gone, or not here yet.
    Elsewhere,
    /// Of an epoch that is over: what followed can be told by nobody.
    Over,
}

/// What stands at a number.
#[derive(Debug)]
pub(super) enum Read {
    /// Changes were missed since: look for the position again.
    BegunAnew,
    /// It is gone: the reader was too slow.
    Gone,
    /// The next events that are wanted.
    Events {
        events: Vec<Arc<Event>>,
        /// The number to go on from.
        next: u64,
        /// Everything up to here was looked at; `None` when nothing new was.
        up_to: Option<Rev>,
    },
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            entries: VecDeque::new(),
            first: 0,
            begun_at: 0,
            known: None,
        }
    }

    /// Changes were missed: from here on all are told again.
    pub(super) fn begin_anew(&mut self, head: Rev) {
        // one number is left out: whoever has read all finds out as well
        self.first = self.end() + 1;
        self.begun_at = self.first;
        self.entries.clear();
        self.known = Some(Known { begin: head, head });
    }

    /// The next change, which may be no event.
    pub(super) fn add(&mut self, position: Rev, event: Option<Event>) {
        let Some(known) = &mut self.known else {
            return;
        };
        known.head = position;
        if let Some(event) = event {
            self.push(position, event);
        }
    }

    /// An event of this edge only.
    pub(super) fn tell(&mut self, event: Event) {
        let at = self.known.map_or(BEFORE_ALL, |known| known.head);
        self.push(at, event);
    }

    fn push(&mut self, at: Rev, event: Event) {
        if self.entries.len() >= self.capacity
            && let Some(oldest) = self.entries.pop_front()
        {
            self.first += 1;
            if let Some(known) = &mut self.known {
                known.begin = oldest.at;
            }
        }
        let event = Arc::new(event);
        self.entries.push_back(Entry { at, event });
    }

    /// What of the stream is here; `None` before the first list.
    pub(super) fn known(&self) -> Option<Known> {
        self.known
    }

    /// The number of the event that comes next.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn find(&self, after: Rev) -> Found {
        let Some(Known { begin, head }) = self.known else {
            return Found::Elsewhere;
        };
        if after.epoch < head.epoch {
            return Found::Over;
        }
        if after < begin || head < after {
            return Found::Elsewhere;
        }
        let is_before = |entry: &Entry| {
            entry.at < after || (entry.at == after && entry.event.position.is_some())
        };
        Found::Next(self.first + self.entries.partition_point(is_before) as u64)
    }

    /// Looks at no more than `limit` events from a number on.
    pub(super) fn read(&self, next: u64, limit: usize, keep: impl Fn(&Event) -> bool) -> Read {
        if next < self.begun_at {
            return Read::BegunAnew;
        }
        if next < self.first {
            return Read::Gone;
        }
        let skipped = usize::try_from(next - self.first).unwrap_or(usize::MAX);
        let unread = self.entries.iter().skip(skipped).take(limit);
        let (mut events, mut next, mut up_to) = (Vec::new(), next, None);
        for Entry { at, event } in unread {
            next += 1;
            up_to = Some(*at);
            if keep(event) {
                events.push(event.clone());
            }
        }
        if next == self.end() {
            up_to = self.known.map(|known| known.head);
        }
        Read::Events {
            events,
            next,
            up_to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::event, *};

    fn at(epoch: u64, revision: u64) -> Rev {
        Rev { epoch, revision }
    }

    /// Begun at 1.10, with these revisions.
    fn ring(capacity: usize, revisions: &[u64]) -> Ring {
        let mut ring = Ring::new(capacity);
        ring.begin_anew(at(1, 10));
        for revision in revisions {
            ring.add(at(1, *revision), Some(event(at(1, *revision), "mine")));
        }
        ring
    }

    fn revisions(ring: &Ring, from: u64, limit: usize) -> (Vec<u64>, u64, Option<Rev>) {
        match ring.read(from, limit, |_| true) {
            Read::Events {
                events,
                next,
                up_to,
            } => {
                let revision = |event: &Arc<Event>| event.position.map_or(0, |at| at.revision);
                (events.iter().map(revision).collect(), next, up_to)
            }
            other => panic!("{other:?}"),
        }
    }

    fn after(ring: &Ring, revision: u64) -> Vec<u64> {
        match ring.find(at(1, revision)) {
            Found::Next(next) => revisions(ring, next, 100).0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_position_is_followed_by_what_came_after_it() {
        let ring = ring(8, &[11, 13, 14]);
        assert_eq!(after(&ring, 10), [11, 13, 14]);
        assert_eq!(after(&ring, 11), [13, 14]);
        assert_eq!(after(&ring, 12), [13, 14], "12 was no event");
        assert!(after(&ring, 14).is_empty());
        assert_eq!(ring.find(at(1, 9)), Found::Elsewhere);
        assert_eq!(ring.find(at(1, 15)), Found::Elsewhere);
        assert_eq!(ring.find(at(0, 12)), Found::Over);
        assert_eq!(ring.find(at(2, 12)), Found::Elsewhere);
        assert_eq!(Ring::new(8).find(at(1, 1)), Found::Elsewhere);
    }

    #[test]
    fn what_is_no_event_moves_the_head_and_is_looked_at_too() {
        let mut ring = ring(8, &[11]);
        ring.add(at(1, 12), None);
        let start = ring.end() - 1;
        assert_eq!(revisions(&ring, start, 100).2, Some(at(1, 12)));
        assert!(after(&ring, 12).is_empty());
    }

    #[test]
    fn a_part_is_read_up_to_its_last_event_only() {
        let ring = ring(8, &[11, 12, 13]);
        let Found::Next(start) = ring.find(at(1, 10)) else {
            panic!("it is there");
        };
        let (read, next, up_to) = revisions(&ring, start, 2);
        assert_eq!((read.as_slice(), up_to), (&[11, 12][..], Some(at(1, 12))));
        let (read, _, up_to) = revisions(&ring, next, 2);
        assert_eq!((read.as_slice(), up_to), (&[13][..], Some(at(1, 13))));
    }

    #[test]
    fn a_slow_reader_finds_its_number_gone_and_its_position_elsewhere() {
        let mut ring = ring(2, &[11, 12]);
        let start = ring.end() - 2;
        assert_eq!(revisions(&ring, start, 100).0, [11, 12]);
        ring.add(at(1, 13), Some(event(at(1, 13), "mine")));
        assert!(matches!(ring.read(start, 100, |_| true), Read::Gone));
        assert_eq!(ring.find(at(1, 10)), Found::Elsewhere);
        assert_eq!(after(&ring, 11), [12, 13]);
    }

    #[test]
    fn after_missed_changes_every_reader_looks_for_its_position_again() {
        let mut ring = ring(8, &[11, 12]);
        let ends = [ring.end() - 1, ring.end()];
        ring.begin_anew(at(1, 40));
        for next in ends {
            assert!(matches!(ring.read(next, 100, |_| true), Read::BegunAnew));
        }
        assert_eq!(ring.find(at(1, 12)), Found::Elsewhere);
        assert!(after(&ring, 40).is_empty());
        ring.begin_anew(at(2, 3));
        assert_eq!(ring.find(at(1, 40)), Found::Over);
    }

    #[test]
    fn an_event_without_position_is_told_in_its_place_and_again_after_a_resume() {
        let mut ring = ring(8, &[11]);
        let mut own = event(at(1, 0), "mine");
        own.position = None;
        ring.tell(own);
        ring.add(at(1, 12), Some(event(at(1, 12), "mine")));
        assert_eq!(after(&ring, 10), [11, 0, 12]);
        assert_eq!(after(&ring, 11), [0, 12]);
        assert!(after(&ring, 12).is_empty());
    }

    #[test]
    fn nothing_is_kept_before_the_first_list() {
        let mut ring = Ring::new(8);
        ring.add(at(1, 1), Some(event(at(1, 1), "mine")));
        assert_eq!((ring.end(), ring.known()), (0, None));
    }
}
