//! Disks that are full, and disks that are set back.

use std::fs::{self, OpenOptions};

use super::{BOOT, Edge, Way, call, log::copy};
use crate::{journal::DIR, tail::Tail};

impl Edge {
    /// What is written from now on finds no room.
    fn fill_disk(&self) {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        self.journal.state().current.set_tail(Tail::new(full));
    }
}

#[tokio::test]
async fn with_a_full_disk_it_goes_on_in_memory() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.fill_disk();
    edge.journal.note(call(2));
    edge.journal.note(call(3));
    assert!(!edge.journal.state().current.is_whole());
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 3);

    // what was not sent is written once there is room
    edge.fill_disk();
    edge.journal.note(call(4));
    edge.ship(Way::RequestLost).await;
    edge.restart(BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 4);
}

#[tokio::test]
async fn without_its_directory_it_goes_on_in_memory_until_there_is_one() {
    let mut edge = Edge::new();
    let dir = edge.dir.path().join(DIR);
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "in its place").unwrap();
    for client in 0..3 {
        edge.journal.note(call(client));
        edge.ship(Way::ReplyLost).await;
        edge.pass(1);
    }
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 3);
    fs::remove_file(&dir).unwrap();
    for client in 3..6 {
        edge.journal.note(call(client));
        edge.ship(Way::RequestLost).await;
    }
    edge.restart(BOOT);
    assert!(edge.ship(Way::Through).await);
    assert_eq!((edge.log.count(), edge.log.written.len()), (6, 1));
}

#[tokio::test]
async fn without_any_disk_memory_is_bounded_and_nothing_goes_uncounted() {
    let mut edge = Edge::new();
    let dir = edge.dir.path().join(DIR);
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, "in its place").unwrap();
    for client in 0..20_000 {
        edge.journal.note(call(client));
        if client % 1000 == 0 {
            edge.ship(Way::RequestLost).await;
            edge.pass(1);
        }
    }
    assert_eq!(edge.journal.state().queue.in_memory().count(), 8);
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 20_000);
    assert!(
        edge.log.entries.len() < 10_000,
        "{}",
        edge.log.entries.len()
    );
}

/// A disk that is set back, with what was noted in the life that it has forgotten, and in
/// the one after it.
#[derive(Debug, Clone, Copy)]
struct SetBack {
    /// Whether something waits on it.
    something_waits: bool,
    /// Whether another process runs in the middle of the life that is forgotten.
    is_restarted: bool,
    forgotten: u16,
    after: u16,
}

impl SetBack {
    async fn run(self) {
        let mut edge = Edge::new();
        edge.journal.note(call(1));
        edge.ship(Way::Through).await;
        if self.something_waits {
            edge.journal.note(call(2));
        }
        let kept = tempfile::tempdir().unwrap();
        let dir = edge.dir.path().join(DIR);
        copy(&dir, kept.path());
        if self.is_restarted {
            edge.restart(BOOT);
        }
        for client in 0..self.forgotten {
            edge.journal.note(call(10 + client));
            edge.ship(Way::Through).await;
        }
        fs::remove_dir_all(&dir).unwrap();
        copy(kept.path(), &dir);
        edge.log.is_set_back = true;
        edge.restart(BOOT);
        for client in 0..self.after {
            edge.journal.note(call(20 + client));
            edge.ship(Way::RequestLost).await;
        }
        assert!(edge.ship(Way::Through).await);
        let counts = edge.log.by_client();
        assert!(
            counts.values().all(|count| *count == 1),
            "{self:?}: {counts:?}"
        );
        let noted = 1 + u16::from(self.something_waits) + self.forgotten + self.after;
        assert_eq!(counts.len(), usize::from(noted), "{self:?}: {counts:?}");
    }
}

/// What is in the log stays there once, and what is noted afterwards comes there once,
/// wherever the numbers of both lives fall.
#[tokio::test]
async fn a_disk_that_is_set_back_neither_swallows_nor_doubles_calls() {
    for something_waits in [false, true] {
        for is_restarted in [false, true] {
            for forgotten in 0..5 {
                for after in 0..4 {
                    let disk = SetBack {
                        something_waits,
                        is_restarted,
                        forgotten,
                        after,
                    };
                    disk.run().await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_higher_number_than_was_used_begins_another_journal() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.ship(Way::Through).await;
    // by a copy of this process
    edge.log.is_set_back = true;
    for written in edge.log.written.values_mut() {
        *written += 1000;
    }
    for client in 2..6 {
        edge.journal.note(call(client));
        edge.ship(Way::RequestLost).await;
    }
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 5);
    assert_eq!(edge.log.written.len(), 2);
    // which stays
    edge.restart(BOOT);
    edge.journal.note(call(6));
    assert!(edge.ship(Way::Through).await);
    assert_eq!((edge.log.count(), edge.log.written.len()), (6, 2));
}

#[tokio::test]
async fn what_was_sent_goes_into_another_journal_also_where_its_file_is_gone() {
    let mut edge = Edge::new();
    edge.journal.note(call(1));
    edge.ship(Way::RequestLost).await;
    let batch = edge.journal.next().await.unwrap().unwrap();
    let id = batch.journal_id().to_string();
    edge.log.written.insert(id.clone(), 1 << 40);
    edge.log.is_set_back = true;
    fs::remove_file(&edge.files()[0]).unwrap();
    assert!(edge.ship(Way::Through).await);
    assert_eq!(edge.log.count(), 1);
    assert!(edge.log.written.keys().any(|other| *other != id));
}
