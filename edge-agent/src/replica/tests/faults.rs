//! The power is cut, the disk is full.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Limits, board, disk::Disk, machine, put, terms, told, value_in};
use crate::{
    clock::manual::ManualClock,
    replica::{Failed, Filter, Replica, WatchError, WriteError, store::FILE},
};
use authguardian_proto::{blackboard::v1 as pb, common::v1::Position};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::under(dir.path());
    let (_, ambient) = ManualClock::ambient();
    let open =
        |dir: &Path| Replica::open(dir, machine(1), Limits::default(), ambient.clone()).unwrap();
    let replica = open(dir.path());
    let terms = terms("plans", pb::Level::Eventual);
    replica.take(vec![told(terms, false)]).await.unwrap();
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let writers = (0..4).map(|writer| {
        let (replica, acknowledged) = (replica.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for number in 0..300 {
                let at = format!("{writer}/{number}");
                replica.put(put(&at, "1")).await.unwrap();
                acknowledged.lock().unwrap().push(at);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut rng, mut cuts) = (StdRng::seed_from_u64(7), 0);
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        // first what was acknowledged, then the cut
        let expected = acknowledged.lock().unwrap().clone();
        let left = disk.lock().unwrap().cut(|| rng.next_u32() % 2 == 0);
        let after = tempfile::tempdir().unwrap();
        std::fs::write(after.path().join(FILE), left).unwrap();
        let restarted = open(after.path());
        for at in &expected {
            assert!(value_in(&restarted, at).is_some(), "{at} after {cuts} cuts");
        }
        let waiting = *restarted.waiting().borrow();
        assert!(waiting >= expected.len() as u64);
        restarted.close().await;
        cuts += 1;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(cuts > 3, "{cuts}");
}

#[tokio::test]
async fn a_disk_that_was_full_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::under(dir.path());
    let (clock, ambient) = ManualClock::ambient();
    let replica = Replica::open(dir.path(), machine(1), Limits::default(), ambient).unwrap();
    let terms = terms("plans", pb::Level::Eventual);
    replica.take(vec![told(terms, false)]).await.unwrap();
    replica.confirm(3, 0).await.unwrap();
    replica.put(put("a", "1")).await.unwrap();
    let all = Filter::Prefix("".into());
    let mut watch = replica.watch(&board(), all.clone(), None).unwrap();
    watch.next().await.unwrap();
    disk.lock().unwrap().is_full = true;
    for _ in 0..3 {
        let failed = replica.put(put("a", "2")).await.unwrap_err();
        assert!(
            matches!(failed, WriteError::Failed(Failed::Storage(_))),
            "{failed}"
        );
    }
    disk.lock().unwrap().is_full = false;
    clock.advance(Duration::from_secs(1));
    replica.put(put("b", "3")).await.unwrap();
    let told = value_in(&replica, "b").unwrap();
    assert_eq!((&*told.value, told.dot.actor.incarnation), ("3", 3));
    assert!(value_in(&replica, "a").is_some());
    // nobody knows whether it was told all: it goes on after what it was told
    let position = watch.position();
    assert!(matches!(watch.next().await, Err(WatchError::Lagged)));
    let mut watch = replica.watch(&board(), all, Some(position)).unwrap();
    let news = watch.next().await.unwrap();
    assert!(news.changes.iter().any(|change| change.key.as_str() == "b"));
    replica.close().await;
}

#[tokio::test]
async fn what_a_failing_disk_has_forgotten_of_what_was_told_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::under(dir.path());
    let (clock, ambient) = ManualClock::ambient();
    let replica = Replica::open(dir.path(), machine(1), Limits::default(), ambient).unwrap();
    let terms = terms("plans", pb::Level::Eventual);
    replica.take(vec![told(terms, false)]).await.unwrap();
    let at = |revision| {
        let delta = pb::BoardDelta {
            board: "plans".into(),
            position: Some(Position { epoch: 1, revision }),
            ..pb::BoardDelta::default()
        };
        let about = Some(pb::follow_response::About::Delta(delta));
        vec![pb::FollowResponse { about }]
    };
    let stands_at = || replica.board(&board()).unwrap().position;
    // nothing that readers go on from: it is not waited for to be on disk
    replica.take(at(7)).await.unwrap();
    assert_eq!(stands_at().unwrap().revision, 7);
    disk.lock().unwrap().is_full = true;
    replica.put(put("a", "1")).await.unwrap_err();
    disk.lock().unwrap().is_full = false;
    clock.advance(Duration::from_secs(1));
    replica.put(put("a", "1")).await.unwrap();
    assert_eq!(stands_at(), None, "forgotten");
    // what follows on it is not taken, but what begins from where it stands now is
    let failed = replica.take(at(8)).await.unwrap_err();
    assert!(matches!(failed, Failed::Storage(_)), "{failed}");
    assert_eq!(stands_at(), None);
    replica.take(at(8)).await.unwrap();
    assert_eq!(stands_at().unwrap().revision, 8);
    replica.close().await;
}
