//! When calls were.

use std::{sync::Arc, time::Duration};

use time::OffsetDateTime;

use super::{BOOT, Edge, Way, call};
use crate::clock::Clock;

/// Another boot, or another wall clock.
#[derive(Debug)]
struct Clocks {
    since_boot: Duration,
    now: OffsetDateTime,
}

impl Clock for Clocks {
    fn now(&self) -> OffsetDateTime {
        self.now
    }

    fn since_boot(&self) -> Duration {
        self.since_boot
    }
}

impl Edge {
    /// Runs again by other clocks.
    fn run_by(&mut self, boot: &str, since_boot: u64, later: i64) {
        let clocks = Clocks {
            since_boot: Duration::from_secs(since_boot),
            now: self.clock.now() + time::Duration::seconds(later),
        };
        self.ambient.clock = Arc::new(clocks);
        self.restart(boot);
    }

    fn ages(&self) -> Vec<u64> {
        self.log
            .entries
            .iter()
            .map(|entry| entry.age_seconds)
            .collect()
    }
}

#[tokio::test]
async fn since_this_boot_the_wall_clock_does_not_matter() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    let second = edge.clock.since_boot().as_secs();
    edge.run_by(BOOT, second + 70, -100_000);
    edge.ship(Way::Through).await;
    assert_eq!(edge.ages(), [70]);
}

#[tokio::test]
async fn over_a_boot_the_wall_clock_tells_how_long_ago_it_was() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.run_by("boot-2", 12, 3 * 24 * 60 * 60);
    edge.ship(Way::Through).await;
    assert_eq!(edge.ages(), [3 * 24 * 60 * 60]);

    // one that was set back says nothing
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.run_by("boot-2", 12, -60);
    edge.ship(Way::Through).await;
    assert_eq!(edge.ages(), [0]);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_after_the_boot_counts_as_it_is_then() {
    let mut edge = Edge::new();
    let second = edge.clock.since_boot().as_secs();
    // as of a machine whose clock has no battery
    let year = 365 * 24 * 60 * 60;
    edge.run_by(BOOT, second, -56 * year);
    let journal = edge.journal.clone();
    let set = Clocks {
        since_boot: Duration::from_secs(second + 5),
        now: edge.clock.now() + time::Duration::seconds(5),
    };
    let mut ambient = edge.ambient.clone();
    ambient.clock = Arc::new(set);
    let now = crate::journal::now(&ambient, &journal.boot);
    journal.state().note(call(1), &journal.files, &now);
    edge.run_by("boot-2", 12, 65);
    edge.ship(Way::Through).await;
    assert_eq!(edge.ages(), [60]);
}
