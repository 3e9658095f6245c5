//! Long histories take a time in proportion to their length.

use std::{collections::BTreeMap, time::Duration};

use super::story::Story;
use crate::{
    check,
    eventual::{Clock, Dot, Fate, Merged, Replica, Siblings, Stamp, Version, Write},
};

#[test]
fn a_hundred_thousand_calls_are_checked_state_by_state() {
    let mut story = Story::default();
    let (mut revision, mut before) = (0, [0; 10]);
    for number in 0_u64..100_000 {
        let key = format!("k{}", number % 10);
        let start = number / 8;
        let slot = &mut before[usize::try_from(number % 10).unwrap()];
        revision += 1;
        story = story.put((start, start + 2), &key, "1", (*slot, revision));
        *slot = revision;
    }
    let report = check::linearizable(&story.history()).unwrap();
    assert_eq!((report.revisions, report.states), (100_000, 100_000));
}

#[test]
fn a_hundred_thousand_calls_of_sessions_are_checked_in_one_pass() {
    let mut story = Story::default();
    for number in 0_u64..50_000 {
        let (key, start) = (format!("k{}", number % 10), 4 * number);
        let session = ["s", "t", "u"][usize::try_from(number % 3).unwrap()];
        let revision = number + 1;
        story = story
            .session(session)
            .put((start, start + 1), &key, "1", (0, revision))
            .get((start + 2, start + 3), &key, "1", (revision, revision));
    }
    let report = check::sessions(&story.history()).unwrap();
    assert_eq!((report.reads, report.writes), (50_000, 50_000));
}

#[test]
fn a_hundred_thousand_writes_of_one_key_are_found_in_one_version() {
    let dot = |counter| Dot {
        actor: "a".to_owned(),
        counter,
    };
    let clock = |counter| [("a", counter)].into_iter().collect::<Clock>();
    let write = |counter: u64| Write {
        client: "client".to_owned(),
        key: "k".to_owned(),
        value: Some(counter.to_string()),
        fate: Fate::Acknowledged,
        stamp: Some(Stamp {
            dot: dot(counter),
            clock: clock(counter),
        }),
        start: Duration::ZERO,
        end: None,
        may_end: false,
    };
    let last = Version {
        dot: dot(100_000),
        clock: clock(100_000),
        time: 0,
        value: Some("100000".to_owned()),
    };
    let siblings = Siblings {
        winner: last.value.clone(),
        versions: vec![last],
    };
    let merged = Merged {
        writes: (1..=100_000).map(write).collect(),
        replicas: vec![Replica {
            name: "one".to_owned(),
            keys: BTreeMap::from([("k".to_owned(), siblings)]),
        }],
        ..Merged::default()
    };
    let report = check::convergence(&merged).unwrap();
    assert_eq!((report.present, report.replaced), (1, 99_999));
}
