//! Floods, and absences of the control plane.

use super::{Edge, Way, call};
use crate::journal::{
    second::DISTINCT,
    segment::{BATCH, LONG},
};

#[tokio::test]
async fn a_flood_of_different_calls_is_told_in_bounded_entries_with_all_its_count() {
    let mut edge = Edge::new();
    let noted = 3 * DISTINCT;
    for client in 0..noted {
        edge.journal.note(call(u16::try_from(client).unwrap()));
    }
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), u64::try_from(noted).unwrap());
    assert_eq!(edge.log.entries.len(), DISTINCT + 1);
    let beyond: Vec<_> = edge
        .log
        .entries
        .iter()
        .filter(|entry| entry.action == "call.refuse")
        .collect();
    let [beyond] = beyond.as_slice() else {
        panic!("{beyond:?}");
    };
    assert_eq!(
        (beyond.outcome.as_str(), beyond.reason.as_str()),
        ("refused", "RESOURCE_EXHAUSTED")
    );
    assert_eq!(beyond.count, u64::try_from(2 * DISTINCT).unwrap());
}

#[tokio::test]
async fn while_nobody_answers_batches_are_full_and_each_call_is_told_as_of_its_second() {
    let mut edge = Edge::new();
    let seconds = 3 * u64::try_from(BATCH).unwrap();
    for _ in 0..seconds {
        edge.journal.note(call(1));
        edge.ship(Way::RequestLost).await;
        edge.pass(1);
    }
    // the first was closed alone, as nothing waited
    assert!((4..=5).contains(&edge.files().len()), "{:?}", edge.files());
    edge.restart(super::BOOT);
    assert!(edge.ship(Way::Through).await);
    let mut ages: Vec<u64> = edge
        .log
        .entries
        .iter()
        .map(|entry| entry.age_seconds)
        .collect();
    ages.sort_unstable();
    assert_eq!(ages, (1..=seconds).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_waits_is_bounded_and_nothing_goes_uncounted() {
    let mut edge = Edge::new();
    let max = 256 * 1024;
    edge.journal.state().queue.max_bytes = max;
    let mut noted = 0;
    for second in 0..60_u16 {
        for client in 0..1000 {
            edge.journal.note(call(1000 * second + client));
            noted += 1;
        }
        edge.ship(Way::RequestLost).await;
        edge.pass(1);
    }
    // what waits, one more, and a file that is not long enough yet
    let bytes = edge.bytes();
    assert!(bytes < max + 256 * 1024 + LONG, "{bytes}");
    // also while it goes on
    for _ in 0..100 {
        edge.journal.note(call(u16::MAX));
        noted += 1;
        edge.ship(Way::RequestLost).await;
        edge.pass(1);
    }
    assert!(edge.bytes() < bytes + 100 * 64, "{}", edge.bytes());
    assert!(edge.files().len() < 10, "{:?}", edge.files());
    edge.restart(super::BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), noted);
    assert!(
        edge.log
            .entries
            .iter()
            .any(|entry| entry.action == "call.refuse")
    );
    // there is room again
    edge.journal.note(call(u16::MAX));
    assert!(edge.ship(Way::Through).await);
    let last = edge.log.entries.last().unwrap();
    assert_eq!((last.action.as_str(), last.count), ("tool.revoke_token", 1));
}

#[tokio::test]
async fn a_long_file_of_repeats_is_written_anew_as_what_it_says() {
    let mut edge = Edge::new();
    edge.journal.note(call(0));
    edge.ship(Way::RequestLost).await;
    // some 20 bytes each
    for _ in 0..100 {
        for _ in 0..999 {
            edge.journal.note(call(1));
        }
        edge.pass(1);
    }
    edge.ship(Way::RequestLost).await;
    assert_eq!(edge.files().len(), 3);
    let closed = std::fs::metadata(&edge.files()[1]).unwrap().len();
    assert!(closed < 8 * 1024, "{closed}");
    edge.restart(super::BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 99_901);
}
