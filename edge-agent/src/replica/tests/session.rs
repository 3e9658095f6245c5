//! Session boards: entries of the control plane, to be read here.

use std::time::Duration;

use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    common::v1::Position,
    ids::BoardName,
};
use tokio::time::Instant;

use super::{Limits, PATIENCE, Rig, about, at, board, key, put, terms, told};
use crate::replica::{ChangeKind, Content, Filter, Range, WatchError, WriteError};

fn session() -> BoardName {
    board()
}

fn entry(key: &str, value: &str, revision: u64) -> pb::Entry {
    pb::Entry {
        key: key.to_owned(),
        value: value.to_owned(),
        revision,
        created_revision: revision,
        writer: "agent:b".to_owned(),
        ..pb::Entry::default()
    }
}

fn delta(entries: Vec<pb::Entry>, gone: &[&str], position: Option<Position>) -> pb::FollowResponse {
    about(About::Delta(pb::BoardDelta {
        board: session().to_string(),
        position,
        entries,
        gone: gone.iter().map(|key| (*key).to_owned()).collect(),
        ..pb::BoardDelta::default()
    }))
}

async fn rig() -> Rig {
    let rig = Rig::empty(1, Limits::default());
    let messages = vec![
        told(terms("plans", pb::Level::Session), true),
        delta(vec![entry("a", "1", 1)], &[], None),
        delta(vec![entry("b", "2", 2)], &[], Some(at(1, 2))),
    ];
    rig.replica.take(messages).await.unwrap();
    rig
}

fn read(rig: &Rig, at: &str) -> Option<pb::Entry> {
    let found = rig.replica.get(&session(), &key(at)).unwrap();
    found.map(|found| match found.content {
        Content::Session(entry) => entry,
        Content::Eventual(value) => panic!("{value:?}"),
    })
}

#[tokio::test]
async fn entries_are_told_as_they_came() {
    let mut rig = rig().await;
    assert_eq!(read(&rig, "a"), Some(entry("a", "1", 1)));
    let next = vec![delta(
        vec![entry("b", "3", 3)],
        &["a", "never"],
        Some(at(1, 4)),
    )];
    rig.replica.take(next).await.unwrap();
    rig.reopen().await;
    assert_eq!(read(&rig, "a"), None);
    assert_eq!(read(&rig, "b"), Some(entry("b", "3", 3)));
    let state = rig.replica.board(&session()).unwrap();
    assert!(state.is_ready());
    assert_eq!((state.position, state.counts.keys), (Some(at(1, 4)), 1));
    assert_eq!(state.counts.bytes, 2);
    let range = Range {
        limit: 10,
        ..Range::default()
    };
    let page = rig.replica.list(&session(), &range, true).unwrap();
    assert_eq!(page.entries.len(), 1);
}

#[tokio::test]
async fn nobody_writes_here() {
    let rig = rig().await;
    let refused = rig.replica.put(put("a", "2")).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotEventual(_)));
}

#[tokio::test]
async fn whoever_waits_for_a_position_is_told_when_it_is_reached() {
    let rig = rig().await;
    let soon = || Instant::now() + Duration::from_millis(20);
    assert!(rig.replica.wait_for(&session(), 1, 2, soon()).await);
    assert!(!rig.replica.wait_for(&session(), 1, 3, soon()).await);
    assert!(!rig.replica.wait_for(&session(), 2, 1, soon()).await);
    let replica = rig.replica.clone();
    let waiting = tokio::spawn(async move {
        let deadline = Instant::now() + PATIENCE;
        replica.wait_for(&session(), 1, 3, deadline).await
    });
    tokio::task::yield_now().await;
    let next = vec![delta(Vec::new(), &[], Some(at(1, 3)))];
    rig.replica.take(next).await.unwrap();
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn a_reset_replaces_all_and_wakes_nobody_for_what_stays() {
    let rig = rig().await;
    let all = || Filter::Prefix("".into());
    let mut watch = rig.replica.watch(&session(), all(), None).unwrap();
    watch.next().await.unwrap();
    let before = rig.replica.position();
    let begin = vec![
        told(terms("plans", pb::Level::Session), true),
        delta(vec![entry("b", "2", 2)], &[], None),
    ];
    rig.replica.take(begin).await.unwrap();
    assert!(!rig.replica.board(&session()).unwrap().is_ready());
    assert_eq!(rig.replica.positions(), []);
    assert_eq!(rig.replica.position(), before);
    let end = vec![delta(vec![entry("c", "3", 1)], &[], Some(at(2, 1)))];
    rig.replica.take(end).await.unwrap();
    assert_eq!(rig.replica.positions()[0].position, Some(at(2, 1)));
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let news = watch.next().await.unwrap();
        heard.extend(
            news.changes
                .iter()
                .map(|one| (one.kind, one.key.to_string())),
        );
    }
    heard.sort_by(|one, other| one.1.cmp(&other.1));
    let expected = [(ChangeKind::Delete, "a"), (ChangeKind::Put, "c")];
    assert_eq!(heard, expected.map(|(kind, key)| (kind, key.to_owned())));
    // and the same for who was not there
    let mut late = rig.replica.watch(&session(), all(), Some(before)).unwrap();
    assert_eq!(late.next().await.unwrap().changes.len(), 2);
}

#[tokio::test]
async fn an_entry_has_ended_when_the_control_plane_says_so() {
    let rig = rig().await;
    let ends = rig.ambient.clock.now().unix_timestamp() + 5;
    let short = pb::Entry {
        expires_at: Some(prost_types::Timestamp {
            seconds: ends,
            nanos: 0,
        }),
        ..entry("s", "1", 3)
    };
    let next = vec![delta(vec![short], &[], Some(at(1, 3)))];
    rig.replica.take(next).await.unwrap();
    assert!(read(&rig, "s").is_some());
    rig.clock.advance(Duration::from_secs(5));
    assert!(read(&rig, "s").is_some(), "by the order of its board");
    let all = Filter::Prefix("".into());
    let mut watch = rig.replica.watch(&session(), all, None).unwrap();
    watch.next().await.unwrap();
    let next = vec![delta(Vec::new(), &["s"], Some(at(1, 4)))];
    rig.replica.take(next).await.unwrap();
    let news = watch.next().await.unwrap();
    assert_eq!(news.changes[0].kind, ChangeKind::Expire);
}

#[tokio::test]
async fn keys_that_are_gone_are_kept_up_to_a_bound() {
    let rig = rig().await;
    let before = rig.replica.position();
    let most = usize::try_from(super::super::change::MAX_GONE).unwrap();
    let keys: Vec<String> = (0..most + 10).map(|number| format!("k{number}")).collect();
    let entries = keys.iter().map(|key| entry(key, "1", 3)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    rig.replica
        .take(vec![delta(entries, &[], Some(at(1, 3)))])
        .await
        .unwrap();
    let between = rig.replica.position();
    rig.replica
        .take(vec![delta(Vec::new(), &keys, Some(at(1, 4)))])
        .await
        .unwrap();
    let watch = |after| {
        rig.replica
            .watch(&session(), Filter::Prefix("".into()), Some(after))
    };
    assert!(matches!(watch(before).err(), Some(WatchError::Compacted)));
    assert!(matches!(watch(between).err(), Some(WatchError::Compacted)));
    let after = at(between.epoch, between.revision + 10);
    assert!(watch(after).is_ok());
    let state = rig.replica.board(&session()).unwrap();
    assert_eq!((state.counts.keys, state.counts.gone), (2, most as u64));
}
