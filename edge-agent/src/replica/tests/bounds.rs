//! Lives of values, and how much there may be.

use std::time::Duration;

use authguardian_proto::blackboard::v1 as pb;

use super::{Limits, Model, Put, Rig, contents, key, put, terms, told};
use crate::replica::WriteError;

#[tokio::test]
async fn a_value_ends_by_itself() {
    let rig = Rig::new().await;
    let short = Put {
        ttl_seconds: Some(5),
        ..put("a", "1")
    };
    let done = rig.replica.put(short).await.unwrap();
    assert!(done.expires_at_millis.is_some());
    assert_eq!(
        rig.value("a").unwrap().expires_at_millis,
        done.expires_at_millis
    );
    rig.clock.advance(Duration::from_millis(4_999));
    assert!(rig.value("a").is_some());
    rig.clock.advance(Duration::from_millis(1));
    assert_eq!(rig.value("a"), None);
    assert_eq!(contents(&rig.replica), []);
    // it is as if it were not there
    assert_eq!(rig.delete("a").await, None);
    let again = rig.put("a", "2").await;
    assert_eq!((again.previous_revision, again.replaced), (0, 0));
}

#[tokio::test]
async fn where_the_writer_says_nothing_the_board_says_how_long_a_value_lives() {
    let rig = Rig::new().await;
    let mut terms = terms("plans", pb::Level::Eventual);
    terms.default_ttl_seconds = 3;
    rig.replica.take(vec![told(terms, false)]).await.unwrap();
    rig.put("a", "1").await;
    let long = Put {
        ttl_seconds: Some(10),
        ..put("b", "1")
    };
    rig.replica.put(long).await.unwrap();
    rig.clock.advance(Duration::from_secs(3));
    assert_eq!(rig.value("a"), None);
    assert!(rig.value("b").is_some());
}

#[tokio::test]
async fn of_several_values_one_that_has_not_ended_is_told() {
    let mut model = Model::default();
    let (one, other) = (
        Rig::empty(1, Limits::default()),
        Rig::empty(2, Limits::default()),
    );
    for rig in [&one, &other] {
        rig.pull(&model).await;
        rig.greet(&mut model).await;
    }
    other.put("a", "\"long\"").await;
    one.clock.advance(Duration::from_secs(1));
    let short = Put {
        ttl_seconds: Some(5),
        ..put("a", "\"short\"")
    };
    one.replica.put(short).await.unwrap();
    other.sync(&mut model).await;
    one.sync(&mut model).await;
    let told = one.value("a").unwrap();
    assert_eq!((&*told.value, told.siblings), ("\"short\"", 2));
    one.clock.advance(Duration::from_secs(5));
    let told = one.value("a").unwrap();
    assert_eq!((&*told.value, told.siblings), ("\"long\"", 1));
    assert_eq!(one.put("a", "\"new\"").await.replaced, 1);
}

#[tokio::test]
async fn a_board_takes_as_many_keys_and_bytes_as_it_may_have() {
    let rig = Rig::new().await;
    let mut terms = terms("plans", pb::Level::Eventual);
    (terms.max_keys, terms.max_bytes) = (2, 20);
    rig.replica.take(vec![told(terms, false)]).await.unwrap();
    rig.put("a", "1").await;
    rig.put("b", "1").await;
    match rig.try_put("c", "1").await.unwrap_err() {
        WriteError::Quota {
            most: 2,
            what: "keys",
            ..
        } => {}
        other => panic!("{other}"),
    }
    rig.put("a", "\"sixteen bytes!\"").await;
    match rig.try_put("b", "1234").await.unwrap_err() {
        WriteError::Quota {
            most: 20,
            what: "bytes",
            ..
        } => {}
        other => panic!("{other}"),
    }
    rig.delete("a").await.unwrap();
    rig.put("c", "1").await;
    rig.check();
}

#[tokio::test]
async fn a_write_that_makes_no_sense_is_refused() {
    let rig = Rig::new().await;
    let large = format!("\"{}\"", "x".repeat(256 * 1024));
    for value in ["", &large] {
        let refused = rig.try_put("a", value).await.unwrap_err();
        assert!(matches!(refused, WriteError::TooLarge { .. }));
    }
    let elsewhere = Put {
        board: "other".parse().unwrap(),
        ..put("a", "1")
    };
    let refused = rig.replica.put(elsewhere).await.unwrap_err();
    assert!(matches!(refused, WriteError::NoBoard(_)));
}

#[tokio::test]
async fn a_full_file_takes_no_values_but_deletions_and_what_is_told() {
    let limits = Limits {
        max_bytes: 4 * 1024 * 1024,
        ..Limits::default()
    };
    let rig = Rig::empty(1, limits);
    let mut model = Model::default();
    rig.pull(&model).await;
    rig.greet(&mut model).await;
    let value = format!("\"{}\"", "x".repeat(50_000));
    let mut written = 0;
    let refused = loop {
        match rig.try_put(&format!("k{written}"), &value).await {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 200, "it is never full");
    };
    match &refused {
        WriteError::Full { max_bytes } => assert_eq!(*max_bytes, limits.max_bytes),
        other => panic!("{other}"),
    }
    assert!(rig.replica.status().file_bytes < 2 * limits.max_bytes);
    model.write(key("told"), Some("1"), 1);
    rig.pull(&model).await;
    assert!(rig.value("told").is_some());
    for number in 0..written {
        rig.delete(&format!("k{number}")).await.unwrap();
    }
    // each was twice in the file: as what is in its key, and to be handed over
    rig.sync(&mut model).await;
    rig.put("k0", "1").await;
}

#[tokio::test]
async fn more_writes_than_may_wait_are_told_to_come_again() {
    let limits = Limits {
        queue: 4,
        ..Limits::default()
    };
    let rig = Rig::empty(1, limits);
    rig.pull(&Model::default()).await;
    // all ask before the thread has its turn more than once or twice
    let writes = (0..200).map(|number| rig.replica.put(put(&format!("k{number}"), "1")));
    let done = futures::future::join_all(writes).await;
    let busy = done
        .iter()
        .filter(|done| matches!(done, Err(WriteError::Busy)));
    let busy = busy.count();
    assert!(busy > 0);
    let taken = done.iter().filter(|done| done.is_ok()).count();
    assert_eq!(taken + busy, 200);
    assert_eq!(contents(&rig.replica).len(), taken);
    rig.put("later", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_share_a_commit() {
    let rig = Rig::new().await;
    let before = rig.replica.status().commits;
    let writers = (0..64).map(|writer| {
        let replica = rig.replica.clone();
        tokio::spawn(async move {
            for number in 0..10 {
                let at = format!("{writer}/{number}");
                replica.put(put(&at, "1")).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let commits = rig.replica.status().commits - before;
    assert!(commits <= 640 / 4, "{commits}");
    assert_eq!(contents(&rig.replica).len(), 640);
}
