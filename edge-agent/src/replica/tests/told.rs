//! What the control plane tells that is large, wrong, or ends a board.

use authguardian_proto::{
    blackboard::v1::{self as pb, follow_response::About},
    crdt::{Actor, Dot, HybridTime, Version, Write},
};

use super::{
    Limits, Model, Rig, about, at, board, contents, key, machine, put, terms, told, value_in,
};
use crate::replica::Range;

fn version(at: &str, counter: u64) -> pb::Version {
    let actor = Actor {
        machine: machine(9),
        incarnation: 1,
    };
    let version = Version {
        dot: Dot { actor, counter },
        clock: [(actor, counter)].into_iter().collect(),
        time: HybridTime::new(counter, 0),
        content: Write {
            value: Some(counter.to_string().into()),
            writer: "agent:b".into(),
            expires_at_millis: None,
        },
    };
    version.to_proto(&key(at), counter)
}

fn delta(versions: Vec<pb::Version>, revision: Option<u64>) -> pb::FollowResponse {
    about(About::Delta(pb::BoardDelta {
        board: board().to_string(),
        versions,
        position: revision.map(|revision| at(1, revision)),
        ..pb::BoardDelta::default()
    }))
}

#[tokio::test]
async fn what_makes_no_sense_is_left_out() {
    let rig = Rig::new().await;
    let mut nobody = version("a", 2);
    nobody.dot = None;
    let mut nothing = version("b", 3);
    nothing.key = String::new();
    let elsewhere = about(About::Delta(pb::BoardDelta {
        board: "other".to_owned(),
        versions: vec![version("a", 7)],
        position: Some(at(1, 9)),
        ..pb::BoardDelta::default()
    }));
    let nameless = told(terms("No Name", pb::Level::Eventual), false);
    let strong = told(terms("strong", pb::Level::Strong), true);
    let empty = pb::FollowResponse { about: None };
    let good = delta(
        vec![nobody, version("a", 1), nothing, version("c", 4)],
        Some(4),
    );
    let messages = vec![elsewhere, nameless, strong, empty, good];
    rig.replica.take(messages).await.unwrap();
    let keys: Vec<_> = contents(&rig.replica)
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(keys, ["a", "c"].map(key));
    assert_eq!(rig.replica.boards().len(), 1);
}

#[tokio::test]
async fn what_was_heard_before_changes_nothing() {
    let rig = Rig::new().await;
    let messages = || vec![delta(vec![version("a", 1), version("b", 2)], Some(2))];
    rig.replica.take(messages()).await.unwrap();
    let (position, commits) = (rig.replica.position(), rig.replica.status().commits);
    rig.replica.take(messages()).await.unwrap();
    rig.replica
        .take(vec![about(About::Alive(pb::Alive {}))])
        .await
        .unwrap();
    assert_eq!(rig.replica.position(), position);
    assert_eq!(rig.replica.status().commits, commits);
}

#[tokio::test]
async fn local_time_follows_what_is_heard() {
    let rig = Rig::new().await;
    let mut ahead = version("a", 1);
    let now = rig.ambient.clock.now().unix_timestamp_nanos() / 1_000_000;
    let soon = u64::try_from(now).unwrap() + 30_000;
    ahead.time = HybridTime::new(soon, 0).as_u64();
    rig.replica
        .take(vec![delta(vec![ahead], None)])
        .await
        .unwrap();
    rig.put("a", "9").await;
    assert!(rig.value("a").unwrap().time > HybridTime::new(soon, 0));
}

#[tokio::test]
async fn much_is_taken_while_others_write() {
    let rig = Rig::new().await;
    let keys = 20_000;
    let versions = (1..=keys)
        .map(|number| version(&format!("k{number}"), number))
        .collect();
    let replica = rig.replica.clone();
    let before = rig.replica.status().commits;
    let taking = tokio::spawn(async move {
        let told = vec![
            told(terms("plans", pb::Level::Eventual), true),
            delta(versions, Some(keys)),
        ];
        replica.take(told).await.unwrap();
    });
    while rig.replica.board(&board()).unwrap().counts.keys == 0 {
        tokio::task::yield_now().await;
    }
    rig.put("mine", "1").await;
    assert!(!rig.replica.board(&board()).unwrap().is_ready());
    taking.await.unwrap();
    assert!(rig.replica.status().commits > before + 4);
    let state = rig.replica.board(&board()).unwrap();
    assert_eq!(
        (state.counts.keys, state.position),
        (keys + 1, Some(at(1, keys)))
    );
    // and goes again: only what was not handed over stays
    let told = vec![
        told(terms("plans", pb::Level::Eventual), true),
        delta(vec![version("k7", 7)], Some(7)),
    ];
    rig.replica.take(told).await.unwrap();
    let left: Vec<_> = contents(&rig.replica)
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(left, ["k7", "mine"].map(key));
    rig.check();
}

#[tokio::test]
async fn a_reset_that_was_broken_off_begins_again() {
    let mut rig = Rig::new().await;
    rig.replica
        .take(vec![delta(vec![version("a", 1)], Some(1))])
        .await
        .unwrap();
    let begin = vec![
        told(terms("plans", pb::Level::Eventual), true),
        delta(vec![version("b", 2)], None),
    ];
    rig.replica.take(begin).await.unwrap();
    rig.reopen().await;
    assert_eq!(rig.replica.positions(), []);
    let again = vec![
        told(terms("plans", pb::Level::Eventual), true),
        delta(vec![version("c", 3)], Some(3)),
    ];
    rig.replica.take(again).await.unwrap();
    let left: Vec<_> = contents(&rig.replica)
        .into_iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(left, [key("c")]);
}

#[tokio::test]
async fn a_board_that_is_dropped_leaves_nothing_but_what_is_to_be_handed_over() {
    let mut rig = Rig::new().await;
    let versions = (1..=9_000)
        .map(|number| version(&format!("k{number}"), number))
        .collect();
    rig.replica
        .take(vec![delta(versions, Some(9_000))])
        .await
        .unwrap();
    let mut other = put("a", "1");
    other.board = "plans2".parse().unwrap();
    rig.replica
        .take(vec![told(terms("plans2", pb::Level::Eventual), false)])
        .await
        .unwrap();
    rig.replica.put(other.clone()).await.unwrap();
    rig.put("mine", "1").await;
    let dropped = about(About::Dropped(board().to_string()));
    rig.replica.take(vec![dropped]).await.unwrap();
    assert!(rig.replica.board(&board()).is_none());
    assert_eq!(value_in(&rig.replica, "k1"), None);
    assert!(rig.replica.get(&other.board, &other.key).unwrap().is_some());
    assert_eq!(rig.replica.outgoing(10).unwrap().len(), 2);
    rig.reopen().await;
    assert_eq!(rig.replica.boards().len(), 1);
    // nothing of it comes back with its name
    rig.replica
        .take(vec![told(terms("plans", pb::Level::Eventual), true)])
        .await
        .unwrap();
    assert_eq!(contents(&rig.replica), []);
    rig.check();
}

#[tokio::test]
async fn pages_tell_all_keys_in_order() {
    let rig = Rig::empty(1, Limits::default());
    rig.pull(&Model::default()).await;
    let versions = (1..=250)
        .map(|number| version(&format!("k/{number:03}"), number))
        .collect();
    rig.replica.take(vec![delta(versions, None)]).await.unwrap();
    rig.replica
        .take(vec![delta(
            vec![version("j", 300), version("l", 301)],
            None,
        )])
        .await
        .unwrap();
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let range = Range {
            prefix: "k/".to_owned(),
            after,
            limit: 100,
        };
        let page = rig.replica.list(&board(), &range, true).unwrap();
        keys.extend(page.entries.into_iter().map(|entry| entry.0));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(
        keys.into_iter()
            .eq((1..=250).map(|number| key(&format!("k/{number:03}"))))
    );
}

#[tokio::test]
async fn a_page_of_large_values_is_cut() {
    let rig = Rig::new().await;
    let large = format!("\"{}\"", "x".repeat(250_000));
    for number in 0..6 {
        rig.put(&format!("k{number}"), &large).await;
    }
    let range = Range {
        limit: 100,
        ..Range::default()
    };
    let page = rig.replica.list(&board(), &range, false).unwrap();
    assert_eq!((page.entries.len(), page.next), (4, Some(key("k3"))));
    let page = rig.replica.list(&board(), &range, true).unwrap();
    assert_eq!((page.entries.len(), page.next), (6, None));
}
