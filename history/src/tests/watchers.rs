//! Faults of watches, each planted in logs that are right without it.

use super::story::{Story, at, entry};
use crate::{
    Filter, History, Kind, Message, Segment, Told, WatchLog,
    check::{self, Rule},
};

/// k is written three times, l once.
fn history() -> History {
    Story::default()
        .put((0, 1), "k", "1", (0, 1))
        .put((2, 3), "l", "2", (0, 2))
        .put((4, 5), "k", "3", (1, 3))
        .put((6, 7), "k", "4", (3, 4))
        .history()
}

fn told(revision: u64) -> Told {
    let k = |value: &str, revision| entry("k", value, (revision, 1));
    let (entry, previous) = match revision {
        1 => (k("1", 1), None),
        2 => (entry("l", "2", (2, 2)), None),
        3 => (k("3", 3), Some(k("1", 1))),
        _ => (k("4", 4), Some(k("3", 3))),
    };
    Told {
        kind: Kind::Put,
        key: entry.key.clone(),
        previous_revision: Some(previous.as_ref().map_or(0, |entry| entry.revision)),
        entry: Some(entry),
        previous,
    }
}

fn event(revision: u64) -> Message {
    Message {
        position: at(revision),
        changes: vec![told(revision)],
    }
}

fn mark(revision: u64) -> Message {
    Message {
        position: at(revision),
        changes: Vec::new(),
    }
}

fn log(segments: Vec<(u64, Vec<Message>)>) -> WatchLog {
    let segment = |(after, messages)| Segment {
        after: Some(at(after)),
        messages,
    };
    WatchLog {
        name: "w".to_owned(),
        filter: Filter::Prefix(String::new()),
        previous: true,
        segments: segments.into_iter().map(segment).collect(),
    }
}

fn is_right(log: WatchLog) {
    if let Err(violation) = check::watch(&history(), &[log]) {
        panic!("{violation}");
    }
}

fn is_caught(log: WatchLog) -> Rule {
    check::watch(&history(), &[log]).unwrap_err().rule
}

#[test]
fn what_is_right_is_not_refuted() {
    is_right(log(vec![(
        0,
        vec![event(1), event(2), event(3), event(4), mark(4)],
    )]));
    is_right(log(vec![
        (0, vec![event(1), event(2)]),
        (2, vec![event(3), mark(3)]),
    ]));
    is_right(log(vec![(0, vec![]), (1, vec![mark(1), event(2)])]));
    let of_one_key = WatchLog {
        filter: Filter::Key("k".to_owned()),
        ..log(vec![(0, vec![event(1), mark(2), event(3), mark(3)])])
    };
    // nobody was told of the last one
    let of_one_key_late = WatchLog {
        segments: vec![Segment {
            after: None,
            messages: vec![mark(2), event(3)],
        }],
        ..of_one_key.clone()
    };
    let report = check::watch(&history(), &[of_one_key, of_one_key_late]).unwrap();
    assert_eq!((report.messages, report.revisions), (6, 4));
}

#[test]
fn reordered_events_are_caught() {
    let caught = is_caught(log(vec![(0, vec![event(1), event(3), event(2), event(4)])]));
    assert_eq!(caught, Rule::Ordered);
    let caught = is_caught(log(vec![(0, vec![event(1), event(2), mark(1)])]));
    assert_eq!(caught, Rule::Ordered);
}

#[test]
fn a_duplicated_event_is_caught() {
    let caught = is_caught(log(vec![(0, vec![event(1), event(2), event(2)])]));
    assert_eq!(caught, Rule::Unique);
    let caught = is_caught(log(vec![
        (0, vec![event(1), event(2)]),
        (2, vec![event(2)]),
    ]));
    assert_eq!(caught, Rule::Unique);
}

#[test]
fn a_gap_is_caught() {
    let caught = is_caught(log(vec![(0, vec![event(1), event(3)])]));
    assert_eq!(caught, Rule::Reliable);
    let caught = is_caught(log(vec![(0, vec![event(1), mark(4)])]));
    assert_eq!(caught, Rule::Reliable);
}

#[test]
fn a_gap_where_a_watcher_goes_on_is_caught() {
    let caught = is_caught(log(vec![(0, vec![event(1)]), (1, vec![event(3)])]));
    assert_eq!(caught, Rule::Resumable);
    let caught = is_caught(log(vec![(0, vec![event(1)]), (2, vec![event(3)])]));
    assert_eq!(caught, Rule::Resumable);
}

#[test]
fn an_event_behind_its_mark_is_caught() {
    let caught = is_caught(log(vec![(0, vec![event(1), mark(2), event(2)])]));
    assert_eq!(caught, Rule::Bookmarkable);
}

#[test]
fn a_wrong_previous_value_is_caught() {
    let mut wrong = event(4);
    wrong.changes[0].previous = Some(entry("k", "1", (1, 1)));
    let events = |last| vec![(0, vec![event(1), event(2), event(3), last])];
    assert_eq!(is_caught(log(events(wrong))), Rule::Previous);
    let mut none = event(4);
    none.changes[0].previous = None;
    assert_eq!(is_caught(log(events(none))), Rule::Previous);
    let mut revision = event(4);
    revision.changes[0].previous_revision = Some(2);
    assert!([Rule::Previous, Rule::WrongAnswer].contains(&is_caught(log(events(revision)))));
}

#[test]
fn a_wrong_event_is_caught() {
    let mut wrong = event(3);
    wrong.changes[0].entry = Some(entry("k", "7", (3, 1)));
    let caught = is_caught(log(vec![(0, vec![event(1), event(2), wrong])]));
    assert_eq!(caught, Rule::WrongEvent);
    let mut wrong = event(3);
    wrong.changes[0].kind = Kind::Expire;
    let caught = is_caught(log(vec![(0, vec![event(1), event(2), wrong])]));
    assert_eq!(caught, Rule::WrongEvent);
    // of a revision that there is not
    let mut invented = event(4);
    invented.position = at(5);
    invented.changes[0].entry = Some(entry("k", "4", (5, 1)));
    let events = vec![event(1), event(2), event(3), event(4), invented];
    assert_eq!(is_caught(log(vec![(0, events)])), Rule::RevisionOfNobody);
}

mod of_transactions {
    use super::{at, entry, log};
    use crate::{
        Answer, Call, Do, History, Kind, Message, Outcome, Step, StepResult, Told,
        check::{self, Rule},
        tests::story::Story,
    };

    fn history() -> History {
        let step = |key: &str| Step {
            key: key.to_owned(),
            what: Do::Put("1".to_owned()),
        };
        let call = Call::Transact {
            compare: Vec::new(),
            then: vec![step("k"), step("l")],
            otherwise: Vec::new(),
        };
        let answer = Answer::Transacted {
            succeeded: true,
            results: vec![StepResult::Changed(0), StepResult::Changed(0)],
            position: at(1),
        };
        Story::default()
            .call(0, 1, call, Outcome::Done(answer))
            .history()
    }

    fn event(keys: &[&str]) -> Message {
        let told = |key: &&str| Told {
            kind: Kind::Put,
            key: (*key).to_owned(),
            entry: Some(entry(key, "1", (1, 1))),
            previous: None,
            previous_revision: Some(0),
        };
        Message {
            position: at(1),
            changes: keys.iter().map(told).collect(),
        }
    }

    #[test]
    fn a_half_told_revision_is_caught() {
        let whole = log(vec![(0, vec![event(&["k", "l"])])]);
        check::watch(&history(), &[whole]).unwrap();
        let caught = |messages| {
            let log = log(vec![(0, messages)]);
            check::watch(&history(), &[log]).unwrap_err().rule
        };
        assert_eq!(caught(vec![event(&["k"])]), Rule::Atomic);
        assert_eq!(caught(vec![event(&["k"]), event(&["l"])]), Rule::Atomic);
    }
}
