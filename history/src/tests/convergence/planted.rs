//! Faults of replicas, each planted in what is right without it. Writes of
//! actors `a` and `b` are named by their dots: `a1`.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Outcome, Refusal,
    check::{self, Rule},
    eventual::{Clock, Dot, Fate, Merged, Replica, Siblings, Stamp, Version, Write},
    tests::story::{Story, put, written},
};

const KEY: &str = "k";

fn dot(name: &str) -> Dot {
    let (actor, counter) = name.split_at(1);
    Dot {
        actor: actor.to_owned(),
        counter: counter.parse().unwrap(),
    }
}

fn clock(seen: &[&str]) -> Clock {
    let dots = seen.iter().map(|name| dot(name));
    dots.map(|dot| (dot.actor, dot.counter)).collect()
}

/// In sight of itself and of what is named.
fn version(name: &str, value: Option<&str>, seen: &[&str]) -> Version {
    let mut clock = clock(seen);
    clock.see(&dot(name));
    Version {
        dot: dot(name),
        clock,
        time: 7,
        value: value.map(str::to_owned),
    }
}

/// Whose client was told as which it was written.
fn write(version: &Version) -> Write {
    Write {
        client: "client".to_owned(),
        key: KEY.to_owned(),
        value: version.value.clone(),
        fate: Fate::Acknowledged,
        stamp: Some(Stamp {
            dot: version.dot.clone(),
            clock: version.clock.clone(),
        }),
        start: Duration::ZERO,
        end: Some(Duration::from_millis(1)),
        may_end: false,
    }
}

/// Whose client was told nothing of it.
fn write_untold(version: &Version) -> Write {
    Write {
        stamp: None,
        ..write(version)
    }
}

fn siblings(versions: &[&Version]) -> Siblings {
    let values = versions.iter().filter(|version| version.value.is_some());
    let winner = values.max_by_key(|version| (version.time, &version.dot));
    Siblings {
        winner: winner.and_then(|version| version.value.clone()),
        versions: versions.iter().copied().cloned().collect(),
    }
}

fn replica(name: &str, siblings: Siblings) -> Replica {
    Replica {
        name: name.to_owned(),
        keys: BTreeMap::from([(KEY.to_owned(), siblings)]),
    }
}

/// Two replicas that have these.
fn both(writes: Vec<Write>, versions: &[&Version]) -> Merged {
    Merged {
        writes,
        replicas: vec![
            replica("one", siblings(versions)),
            replica("two", siblings(versions)),
        ],
        ..Merged::default()
    }
}

fn is_right(merged: &Merged) {
    if let Err(violation) = check::convergence(merged) {
        panic!("{violation}");
    }
}

/// And names the key.
fn is_caught(merged: &Merged) -> Rule {
    let violation = check::convergence(merged).unwrap_err();
    assert!(!violation.concerned.is_empty(), "{violation}");
    violation.rule
}

#[test]
fn a_lost_acknowledged_write_is_caught() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    let writes = vec![write(&x), write(&y)];
    is_right(&both(writes.clone(), &[&x, &y]));
    assert_eq!(is_caught(&both(writes.clone(), &[&y])), Rule::Lost);
    assert_eq!(is_caught(&both(writes.clone(), &[])), Rule::Lost);
    let nowhere = Merged {
        writes,
        ..Merged::default()
    };
    assert_eq!(is_caught(&nowhere), Rule::Lost);

    // written over in sight of it
    let over = version("b1", Some("y"), &["a1"]);
    let merged = both(vec![write(&x), write(&over)], &[&over]);
    is_right(&merged);
    let report = check::convergence(&merged).unwrap();
    assert_eq!((report.present, report.replaced), (1, 1));
}

#[test]
fn one_of_whom_nobody_was_told_enough_is_counted_or_lost_for_certain() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    is_right(&both(vec![write_untold(&x)], &[&x]));
    let after = |start| Write {
        start: Duration::from_millis(start),
        end: None,
        ..write_untold(&x)
    };
    // another may have seen it
    let merged = both(vec![after(0), write(&y)], &[&y]);
    is_right(&merged);
    assert_eq!(check::convergence(&merged).unwrap().unproven, 1);
    // which had ended before
    let merged = both(vec![after(2), write(&y)], &[&y]);
    assert_eq!(is_caught(&merged), Rule::Lost);
    // nothing is left that might have
    let merged = both(vec![after(0), write_untold(&y)], &[]);
    assert_eq!(is_caught(&merged), Rule::Lost);
}

#[test]
fn a_key_that_is_deleted_stays_deleted() {
    let x = version("a1", Some("x"), &[]);
    let gone = version("b1", None, &["a1"]);
    let writes = || vec![write(&x), write(&gone)];
    is_right(&both(writes(), &[&gone]));
    assert_eq!(is_caught(&both(writes(), &[&x])), Rule::Resurrected);
    assert_eq!(is_caught(&both(writes(), &[&x, &gone])), Rule::Resurrected);

    // what the deletion had not seen is there
    let unseen = version("a2", Some("y"), &["a1"]);
    let mut all = writes();
    all.push(write(&unseen));
    is_right(&both(all.clone(), &[&gone, &unseen]));
    assert_eq!(is_caught(&both(all, &[&gone])), Rule::Lost);
}

#[test]
fn a_tombstone_that_is_forgotten_has_seen_what_it_had() {
    let x = version("a1", Some("x"), &[]);
    let gone = version("b1", None, &["a1"]);
    let writes = vec![write(&x), write(&gone)];
    let forgotten = |writes: &Vec<Write>, versions: &[&Version], dots: &[&str]| Merged {
        collected: dots.iter().map(|name| dot(name)).collect(),
        ..both(writes.clone(), versions)
    };
    is_right(&forgotten(&writes, &[], &["b1"]));
    // not by all yet
    let mut merged = forgotten(&writes, &[], &["b1"]);
    merged.replicas[1] = replica("two", siblings(&[&gone]));
    is_right(&merged);
    assert_eq!(is_caught(&forgotten(&writes, &[], &[])), Rule::Lost);
    assert_eq!(
        is_caught(&forgotten(&writes, &[&x], &["b1"])),
        Rule::Resurrected
    );
    // a value is none
    assert_eq!(is_caught(&forgotten(&writes, &[], &["a1"])), Rule::Lost);
    let violation = check::convergence(&forgotten(&writes, &[&gone], &["b9"])).unwrap_err();
    assert_eq!(violation.rule, Rule::NeverWritten);
    // whatever became of the deletion: it has been seen
    let unknown = Write {
        fate: Fate::Unknown,
        ..write(&gone)
    };
    is_right(&forgotten(&vec![write(&x), unknown], &[], &["b1"]));
}

#[test]
fn what_was_written_over_is_not_there() {
    let x = version("a1", Some("x"), &[]);
    let over = version("b1", Some("y"), &["a1"]);
    let later = version("b2", Some("z"), &["a1", "b1"]);
    let writes = vec![write(&x), write(&over), write(&later)];
    is_right(&both(writes.clone(), &[&later]));
    assert_eq!(
        is_caught(&both(writes.clone(), &[&later, &x])),
        Rule::Overwritten
    );
    assert_eq!(is_caught(&both(writes, &[&x])), Rule::Overwritten);
    // by one that was taken back, it is there again
    let taken_back = Write {
        fate: Fate::Refused,
        ..write(&over)
    };
    is_right(&both(vec![write(&x), taken_back], &[&x]));
}

#[test]
fn replicas_that_differ_are_caught() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    let differ = |one: Siblings, two: Siblings| Merged {
        replicas: vec![replica("one", one), replica("two", two)],
        ..both(vec![write(&x), write(&y)], &[])
    };
    let all = || siblings(&[&x, &y]);
    is_right(&differ(all(), siblings(&[&y, &x])));
    assert_eq!(is_caught(&differ(all(), siblings(&[&x]))), Rule::Diverged);
    assert_eq!(is_caught(&differ(siblings(&[&y]), all())), Rule::Diverged);
    let mut without = differ(all(), all());
    without.replicas[1].keys.clear();
    assert_eq!(is_caught(&without), Rule::Diverged);
    // of the same write another time
    let other = Version {
        time: 8,
        ..y.clone()
    };
    let merged = differ(siblings(&[&x, &y]), siblings(&[&x, &other]));
    assert_eq!(is_caught(&merged), Rule::DotTwice);
}

#[test]
fn a_tombstone_that_one_replica_lacks_is_caught() {
    let gone = version("b1", None, &[]);
    let mut merged = both(vec![write(&gone)], &[&gone]);
    is_right(&merged);
    merged.replicas[0].keys.clear();
    assert_eq!(is_caught(&merged), Rule::Diverged);
}

#[test]
fn a_winner_that_differs_is_caught() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    let told = |one: Option<&str>, two: Option<&str>| {
        let mut merged = both(vec![write(&x), write(&y)], &[&x, &y]);
        for (replica, winner) in merged.replicas.iter_mut().zip([one, two]) {
            replica.keys.get_mut(KEY).unwrap().winner = winner.map(str::to_owned);
        }
        merged
    };
    is_right(&told(Some("y"), Some("y")));
    // at the same time, either may win, but everywhere
    is_right(&told(Some("x"), Some("x")));
    assert_eq!(is_caught(&told(Some("x"), Some("y"))), Rule::Winner);
    // one that is there nowhere, and none where there are some
    assert_eq!(is_caught(&told(Some("z"), Some("z"))), Rule::Winner);
    assert_eq!(is_caught(&told(None, None)), Rule::Winner);
}

#[test]
fn an_earlier_value_or_a_tombstone_does_not_win() {
    let early = version("a1", Some("x"), &[]);
    let late = Version {
        time: 8,
        ..version("b1", Some("y"), &[])
    };
    let gone = Version {
        time: 9,
        ..version("c1", None, &[])
    };
    let writes = vec![write(&early), write(&late), write(&gone)];
    let mut merged = both(writes, &[&early, &late, &gone]);
    is_right(&merged);
    for winner in [Some("x".to_owned()), None] {
        for replica in &mut merged.replicas {
            replica.keys.get_mut(KEY).unwrap().winner = winner.clone();
        }
        assert_eq!(is_caught(&merged), Rule::Winner);
    }
}

#[test]
fn a_value_from_nowhere_is_caught() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    assert_eq!(
        is_caught(&both(vec![write(&x)], &[&x, &y])),
        Rule::NeverWritten
    );
    // of another key
    let other = Write {
        key: "other".to_owned(),
        ..write_untold(&y)
    };
    assert_eq!(
        is_caught(&both(vec![write(&x), other], &[&x, &y])),
        Rule::NeverWritten
    );
    // a tombstone of nobody
    let gone = version("b1", None, &["a1"]);
    assert_eq!(
        is_caught(&both(vec![write(&x)], &[&gone])),
        Rule::NeverWritten
    );
}

#[test]
fn a_write_of_unknown_outcome_may_be_there_or_not() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    let unknown = Write {
        fate: Fate::Unknown,
        ..write_untold(&y)
    };
    is_right(&both(vec![write(&x), unknown.clone()], &[&x, &y]));
    is_right(&both(vec![write(&x), unknown.clone()], &[&x]));
    // and have seen others
    let over = version("b1", Some("y"), &["a1"]);
    is_right(&both(vec![write(&x), unknown], &[&over]));
    let gone = version("b1", None, &["a1"]);
    let unknown = Write {
        fate: Fate::Unknown,
        ..write_untold(&gone)
    };
    is_right(&both(vec![write(&x), unknown], &[&gone]));
}

#[test]
fn a_write_that_was_refused_is_not_there() {
    let x = version("a1", Some("x"), &[]);
    for write in [write(&x), write_untold(&x)] {
        let refused = Write {
            fate: Fate::Refused,
            ..write
        };
        is_right(&both(vec![refused.clone()], &[]));
        assert_eq!(is_caught(&both(vec![refused], &[&x])), Rule::RefusedSeen);
    }
}

#[test]
fn a_dot_of_two_writes_is_caught() {
    let x = version("a1", Some("x"), &[]);
    let again = version("a1", Some("y"), &[]);
    let two = both(vec![write(&x), write(&again)], &[&x]);
    assert_eq!(is_caught(&two), Rule::DotTwice);
    let unknown = Write {
        fate: Fate::Unknown,
        ..write_untold(&again)
    };
    let other = both(vec![write(&x), unknown], &[&again]);
    assert_eq!(is_caught(&other), Rule::DotTwice);
    // or in sight of something else than its client was told
    let sighted = version("a1", Some("x"), &["b1"]);
    assert_eq!(
        is_caught(&both(vec![write(&x)], &[&sighted])),
        Rule::WrongAnswer
    );
}

#[test]
fn what_may_end_by_itself_is_not_missed() {
    let x = version("a1", Some("x"), &[]);
    let ending = |write: Write| Write {
        may_end: true,
        ..write
    };
    for write in [write(&x), write_untold(&x)] {
        let merged = both(vec![ending(write.clone())], &[]);
        is_right(&merged);
        assert_eq!(check::convergence(&merged).unwrap().ended, 1);
        // by a tombstone of whoever ends it
        let gone = version("p1", None, &["a1"]);
        is_right(&both(vec![ending(write)], &[&gone]));
    }
}

#[test]
fn calls_that_were_recorded_are_writes() {
    let history = Story::default()
        .session("s")
        .call(0, 1, put(KEY, "x"), written(1, 0))
        .call(2, 3, put(KEY, "y"), Outcome::Unknown)
        .call(4, 5, put(KEY, "z"), Outcome::Refused(Refusal::Conflict))
        .get_nothing(6, 7, KEY)
        .history();
    let operations = history.operations.iter();
    let writes: Vec<Write> = operations
        .filter_map(|operation| Write::of(operation, None))
        .collect();
    let fates: Vec<Fate> = writes.iter().map(|write| write.fate).collect();
    assert_eq!(fates, [Fate::Acknowledged, Fate::Unknown, Fate::Refused]);
    let over = version("a2", Some("y"), &["a1"]);
    is_right(&both(writes.clone(), &[&version("a1", Some("x"), &[])]));
    is_right(&both(writes, &[&over]));
}

#[test]
fn a_report_names_the_replica_the_key_and_the_write() {
    let (x, y) = (version("a1", Some("x"), &[]), version("b1", Some("y"), &[]));
    let merged = both(vec![write(&x), write(&y)], &[&y]);
    let text = check::convergence(&merged).unwrap_err().to_string();
    assert_eq!(
        text,
        "Lost: an acknowledged write of \"k\" is not there, and nothing that is has seen it\
         \n  client: put \"k\" = x as a:1 in sight of {a:1} [0ns..1ms]: acknowledged\
         \n  there: b:1 = y in sight of {b:1}, time 7"
    );
    let mut merged = both(vec![write(&x), write(&y)], &[&x, &y]);
    merged.replicas[1] = replica("two", siblings(&[&x]));
    let text = check::convergence(&merged).unwrap_err().to_string();
    assert!(
        text.contains("replica two has not in \"k\" what one has: b:1 = y"),
        "{text}"
    );
}
