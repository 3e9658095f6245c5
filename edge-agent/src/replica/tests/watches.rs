//! Watches: nothing is missed, nobody is woken for nothing.

use std::time::Duration;

use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    crdt::{Actor, Dot, HybridTime, Version, Write},
    ids::MachineId,
};
use proptest::prelude::*;

use super::{Model, PATIENCE, Put, Rig, about, at, board, copied, key, put};
use crate::replica::{ChangeKind, Filter, News, Watch, WatchError};

fn all() -> Filter {
    Filter::Prefix("".into())
}

async fn next(watch: &mut Watch) -> News {
    let next = tokio::time::timeout(PATIENCE, watch.next());
    next.await.expect("it is told").unwrap()
}

/// Whether nothing comes, however often it is looked for.
async fn is_silent(watch: &mut Watch) -> bool {
    let next = tokio::time::timeout(Duration::from_millis(50), watch.next());
    next.await.is_err()
}

fn keys(news: &News) -> Vec<(ChangeKind, &str)> {
    let changes = news.changes.iter();
    changes.map(|one| (one.kind, one.key.as_str())).collect()
}

#[tokio::test]
async fn a_watch_tells_each_change_from_now_on() {
    let rig = Rig::new().await;
    rig.put("before", "1").await;
    let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
    let mark = next(&mut watch).await;
    assert_eq!(
        (mark.changes.len(), mark.up_to),
        (0, rig.replica.position())
    );
    let done = rig.put("a", "1").await;
    let news = next(&mut watch).await;
    assert_eq!(keys(&news), [(ChangeKind::Put, "a")]);
    assert_eq!(news.up_to, done.position);
    assert_eq!(news.changes[0].revision, done.position.revision);
    assert_eq!(&*news.changes[0].writer, "agent:a");
    rig.delete("a").await.unwrap();
    let news = next(&mut watch).await;
    assert_eq!(keys(&news), [(ChangeKind::Delete, "a")]);
    assert_eq!(news.changes[0].found, None);
}

#[tokio::test]
async fn a_watch_goes_on_after_a_position() {
    let mut rig = Rig::new().await;
    rig.put("a", "1").await;
    let after = rig.put("b", "2").await.position;
    rig.put("a", "3").await;
    rig.put("c", "4").await;
    rig.put("a", "5").await;
    rig.delete("b").await.unwrap();
    rig.reopen().await;
    let mut watch = rig.replica.watch(&board(), all(), Some(after)).unwrap();
    let news = next(&mut watch).await;
    let expected = [
        (ChangeKind::Put, "c"),
        (ChangeKind::Put, "a"),
        (ChangeKind::Delete, "b"),
    ];
    assert_eq!(keys(&news), expected);
    assert_eq!(news.up_to, rig.replica.position());
    let now = Some(rig.replica.position());
    let mut watch = rig.replica.watch(&board(), all(), now).unwrap();
    assert_eq!(next(&mut watch).await.changes, []);
    let filter = Filter::Key(key("a"));
    let mut watch = rig.replica.watch(&board(), filter, Some(after)).unwrap();
    assert_eq!(keys(&next(&mut watch).await), [(ChangeKind::Put, "a")]);
}

#[tokio::test]
async fn nobody_is_woken_by_what_he_does_not_watch() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    let filters = [Filter::Key(key("a/1")), Filter::Prefix("a/".into())];
    let mut watches = Vec::new();
    for filter in filters {
        let mut watch = rig.replica.watch(&board(), filter, None).unwrap();
        next(&mut watch).await;
        watches.push(watch);
    }
    for other in ["a", "b/1", "a%2F1"] {
        rig.put(other, "1").await;
    }
    for watch in &mut watches {
        assert!(is_silent(watch).await);
    }
    rig.put("a/1", "1").await;
    for watch in &mut watches {
        assert_eq!(keys(&next(watch).await), [(ChangeKind::Put, "a/1")]);
    }
    // it comes back from the control plane, and is the same
    rig.sync(&mut model).await;
    rig.pull(&model).await;
    for watch in &mut watches {
        assert!(is_silent(watch).await);
    }
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_so_and_goes_on() {
    let rig = Rig::new().await;
    let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
    next(&mut watch).await;
    let large = format!("\"{}\"", "x".repeat(250_000));
    for number in 0..50 {
        rig.put(&format!("k{number}"), &large).await;
    }
    let mut heard = Vec::new();
    let error = loop {
        match watch.next().await {
            Ok(news) => heard.extend(keys(&news).iter().map(|(_, key)| (*key).to_owned())),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WatchError::Lagged), "{error}");
    let after = Some(watch.position());
    let mut watch = rig.replica.watch(&board(), all(), after).unwrap();
    while heard.len() < 50 {
        let news = next(&mut watch).await;
        heard.extend(keys(&news).iter().map(|(_, key)| (*key).to_owned()));
    }
    let expected = (0..50).map(|number| format!("k{number}"));
    assert!(heard.into_iter().eq(expected));
}

#[tokio::test]
async fn a_position_that_cannot_be_gone_on_from_is_refused() {
    let rig = Rig::new().await;
    let done = rig.put("a", "1").await.position;
    let watch = |position| rig.replica.watch(&board(), all(), Some(position)).err();
    for wrong in [
        at(done.epoch + 1, done.revision),
        at(done.epoch, done.revision + 1),
    ] {
        assert!(matches!(watch(wrong), Some(WatchError::Compacted)));
    }
    assert!(watch(done).is_none());
    let elsewhere = "other".parse().unwrap();
    let watch = rig.replica.watch(&elsewhere, all(), None).err();
    assert!(matches!(watch, Some(WatchError::NoBoard(_))));
}

#[tokio::test]
async fn forgotten_tombstones_raise_the_floor_of_watches() {
    let mut model = Model::default();
    let rig = Rig::new().await;
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    let before = rig.put("a", "1").await.position;
    rig.put("b", "1").await;
    let deleted = rig.delete("a").await.unwrap().position;
    rig.sync(&mut model).await;
    let watch = |after| rig.replica.watch(&board(), all(), Some(after));
    assert!(watch(before).is_ok());
    let mut live = watch(deleted).unwrap();
    next(&mut live).await;
    model.collect();
    rig.pull(&model).await;
    assert!(matches!(watch(before).err(), Some(WatchError::Compacted)));
    assert!(watch(deleted).is_ok());
    assert!(is_silent(&mut live).await);
    assert_eq!(rig.replica.siblings(&board(), &key("a")).unwrap(), []);
    // what is not taken yet is kept
    rig.delete("b").await.unwrap();
    rig.pull(&model).await;
    assert_eq!(rig.replica.siblings(&board(), &key("b")).unwrap().len(), 1);
}

#[tokio::test]
async fn what_the_control_plane_ends_has_ended_by_itself() {
    let rig = Rig::new().await;
    let short = Put {
        ttl_seconds: Some(5),
        ..put("a", "1")
    };
    rig.replica.put(short).await.unwrap();
    let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
    next(&mut watch).await;
    rig.clock.advance(Duration::from_secs(6));
    let written = rig.replica.siblings(&board(), &key("a")).unwrap()[0].clone();
    let actor = Actor {
        machine: MachineId::from_uuid(uuid::Uuid::nil()),
        incarnation: 1,
    };
    let dot = Dot { actor, counter: 1 };
    let mut clock = written.clock.clone();
    clock.see(dot);
    let millis = written.content.expires_at_millis.unwrap();
    let tombstone = Version {
        dot,
        clock,
        time: HybridTime::new(millis + 1, 0),
        content: Write {
            value: None,
            writer: "admin:expiry".into(),
            expires_at_millis: None,
        },
    };
    let delta = pb::BoardDelta {
        board: board().to_string(),
        versions: vec![tombstone.to_proto(&key("a"), 9)],
        ..pb::BoardDelta::default()
    };
    let before = rig.replica.position();
    rig.replica
        .take(vec![about(About::Delta(delta))])
        .await
        .unwrap();
    let news = next(&mut watch).await;
    assert_eq!(keys(&news), [(ChangeKind::Expire, "a")]);
    let mut again = rig.replica.watch(&board(), all(), Some(before)).unwrap();
    assert_eq!(keys(&next(&mut again).await), [(ChangeKind::Expire, "a")]);
}

#[tokio::test]
async fn a_watch_ends_with_its_board_and_with_the_replica() {
    let rig = Rig::new().await;
    let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
    next(&mut watch).await;
    let dropped = about(About::Dropped(board().to_string()));
    rig.replica.take(vec![dropped]).await.unwrap();
    assert!(matches!(watch.next().await, Err(WatchError::NoBoard(_))));
    let rig = Rig::new().await;
    let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
    next(&mut watch).await;
    rig.replica.close().await;
    assert!(matches!(watch.next().await, Err(WatchError::Failed(_))));
    assert!(rig.replica.watch(&board(), all(), None).is_err());
}

#[tokio::test]
async fn a_copy_of_the_file_is_no_other_replica_to_watches() {
    let rig = Rig::new().await;
    let done = rig.put("a", "1").await.position;
    let copy = copied(rig.dir.path());
    let other = rig.open(copy.path());
    assert!(other.watch(&board(), all(), Some(done)).is_ok());
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_or_told_twice_while_others_write() {
    let rig = Rig::new().await;
    let replica = rig.replica.clone();
    let writing = tokio::spawn(async move {
        let writes = (0..400).map(|number| replica.put(put(&format!("k{number:03}"), "1")));
        futures::future::join_all(writes).await
    });
    let mut watches = Vec::new();
    while !writing.is_finished() && watches.len() < 50 {
        let after = at(rig.replica.position().epoch, 0);
        watches.push(rig.replica.watch(&board(), all(), Some(after)).unwrap());
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    let end = rig.replica.position();
    for mut watch in watches {
        let mut heard = Vec::new();
        while watch.position() != end {
            let news = next(&mut watch).await;
            heard.extend(news.changes.iter().map(|change| change.revision));
        }
        assert!(heard.into_iter().eq(1..=400));
    }
}

#[tokio::test]
async fn what_was_read_as_missed_is_not_told_again_as_new() {
    let rig = Rig::new().await;
    let after = rig.replica.position();
    rig.put("a", "1").await;
    let mut watch = rig.replica.watch(&board(), all(), Some(after)).unwrap();
    // a reader that came between a commit and the telling of it
    let change = next(&mut watch).await.changes[0].clone();
    let told = [(board(), change)];
    rig.replica.watchers().tell(&told, rig.replica.position());
    assert!(is_silent(&mut watch).await);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whoever applies what watches tell, broken off and gone on wherever, has what is there.
    #[test]
    fn what_watches_tell_adds_up_to_what_is_there(
        writes in proptest::collection::vec((0..6_u8, any::<bool>(), 0..8_u8), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::new().await;
            let mut watch = rig.replica.watch(&board(), all(), None).unwrap();
            let mut copy = std::collections::BTreeMap::new();
            for (number, (at, deletes, then)) in writes.into_iter().enumerate() {
                let at = format!("k{at}");
                if deletes {
                    rig.delete(&at).await;
                } else {
                    rig.put(&at, &number.to_string()).await;
                }
                if then == 0 {
                    let after = Some(watch.position());
                    watch = rig.replica.watch(&board(), all(), after).unwrap();
                }
                let is_behind = |watch: &Watch| watch.position() != rig.replica.position();
                while is_behind(&watch) && then < 3 {
                    apply(&mut copy, &next(&mut watch).await);
                    if then == 1 {
                        break;
                    }
                }
            }
            while watch.position() != rig.replica.position() {
                apply(&mut copy, &next(&mut watch).await);
            }
            let there = super::contents(&rig.replica).into_iter();
            let there = there.map(|(key, value)| (key, value.value.to_string()));
            assert!(copy.into_iter().eq(there));
        });
    }
}

fn apply(
    copy: &mut std::collections::BTreeMap<authguardian_proto::board::Key, String>,
    news: &News,
) {
    for change in &news.changes {
        let found = change.found.as_ref().map(|found| match &found.content {
            crate::replica::Content::Eventual(value) => value.value.to_string(),
            crate::replica::Content::Session(entry) => entry.value.clone(),
        });
        match found {
            Some(value) => drop(copy.insert(change.key.clone(), value)),
            None => drop(copy.remove(&change.key)),
        }
    }
}
