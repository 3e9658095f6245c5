//! Keys that are not there.

use std::time::Duration;

use super::{is_caught, is_right};
use crate::{
    Answer, Call, History, Outcome,
    check::Rule,
    tests::story::{Story, at, entry, written},
};

fn delete(key: &str) -> Call {
    Call::Delete {
        key: key.to_owned(),
        if_revision: None,
        if_lock: None,
    }
}

fn deleted(revision: u64, before: u64) -> Outcome {
    Outcome::Done(Answer::Deleted {
        deleted: true,
        position: at(revision),
        previous_revision: before,
    })
}

fn absent(story: Story, start: u64, board: u64) -> Story {
    let call = Call::Get {
        key: "k".to_owned(),
    };
    let position = at(board);
    story.call(
        start,
        start + 1,
        call,
        Outcome::Done(Answer::Absent { position }),
    )
}

/// The ways of being told that k is not there, at revision `board` if at any.
fn told(story: impl Fn() -> Story, start: u64, board: u64) -> Vec<History> {
    let nothing = Outcome::Done(Answer::Deleted {
        deleted: false,
        position: at(board),
        previous_revision: 0,
    });
    vec![
        story().get_nothing(start, start + 1, "k").history(),
        absent(story(), start, board).history(),
        story()
            .list((start, start + 1), Vec::new(), board)
            .history(),
        story()
            .call(start, start + 1, delete("k"), nothing)
            .history(),
    ]
}

#[test]
fn an_own_write_that_is_not_there_is_caught() {
    let wrote = || Story::default().session("s").put((0, 1), "k", "1", (0, 2));
    for history in told(wrote, 10, 2) {
        assert_eq!(is_caught(&history), Rule::ReadYourWrites);
    }
    let deleted_by_another = |outcome: Outcome| {
        move || {
            wrote()
                .session("t")
                .call(4, 5, delete("k"), outcome.clone())
                .session("s")
        }
    };
    for outcome in [deleted(3, 2), Outcome::Unknown] {
        for history in told(deleted_by_another(outcome.clone()), 10, 3) {
            is_right(&history);
        }
        // before it was asked for
        for history in told(deleted_by_another(outcome), 2, 3) {
            assert_eq!(is_caught(&history), Rule::ReadYourWrites);
        }
    }
    // one that is before the write
    for history in told(deleted_by_another(deleted(1, 0)), 10, 3) {
        assert_eq!(is_caught(&history), Rule::ReadYourWrites);
    }
    // one that is behind where the board was read
    let late = absent(deleted_by_another(deleted(3, 2))(), 10, 2);
    assert_eq!(is_caught(&late.history()), Rule::ReadYourWrites);
}

#[test]
fn an_own_deletion_is_seen() {
    let deleting = || {
        Story::default()
            .session("s")
            .put((0, 1), "k", "1", (0, 1))
            .call(2, 3, delete("k"), deleted(2, 1))
    };
    for history in told(deleting, 10, 2) {
        is_right(&history);
    }
    let stale = deleting().get((10, 11), "k", "1", (1, 1));
    assert_eq!(is_caught(&stale.history()), Rule::ReadYourWrites);
    let again = deleting()
        .session("t")
        .put((4, 5), "k", "2", (0, 3))
        .session("s")
        .get((10, 11), "k", "2", (3, 3));
    is_right(&again.history());
}

#[test]
fn what_a_session_has_seen_is_there_until_it_ends() {
    let seen = || {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .session("s")
            .get((2, 3), "k", "1", (1, 1))
    };
    for history in told(seen, 10, 1) {
        assert_eq!(is_caught(&history), Rule::MonotonicReads);
    }
    let ended = || {
        seen()
            .session("t")
            .call(4, 5, delete("k"), deleted(2, 1))
            .session("s")
    };
    for history in told(ended, 10, 2) {
        is_right(&history);
    }
}

#[test]
fn what_was_gone_does_not_come_back() {
    let gone = || {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .call(2, 3, delete("k"), deleted(2, 1))
            .session("s")
    };
    for (number, mut history) in told(gone, 6, 2).into_iter().enumerate() {
        let mut back = |board| {
            let story = Story::default().session("s");
            let mut then = story.get((10, 11), "k", "1", (1, board)).history();
            then.operations[0].number = 3;
            history.operations.truncate(3);
            history.operations.append(&mut then.operations);
            history.clone()
        };
        // the first was told no position, and may have been told so before the write
        if number > 0 {
            assert_eq!(is_caught(&back(1)), Rule::MonotonicReads);
            assert_eq!(is_caught(&back(2)), Rule::MonotonicReads);
        } else {
            is_right(&back(1));
            assert_eq!(is_caught(&back(2)), Rule::WrongAnswer);
        }
    }
}

#[test]
fn an_absence_counts_from_where_the_session_knew_the_board_to_be() {
    // at another edge, which has not heard of the deletion
    let history = Story::default()
        .session("t")
        .put((0, 1), "k", "1", (0, 1))
        .session("s")
        .put((2, 3), "l", "2", (0, 3))
        .session("t")
        .call(4, 5, delete("k"), deleted(7, 1))
        .session("s")
        .get_nothing(6, 7, "k")
        .get((8, 9), "k", "1", (1, 6))
        .history();
    assert_eq!(is_caught(&history), Rule::MonotonicReads);
}

#[test]
fn a_board_without_a_key_that_the_session_knows_to_be_on_it_is_caught() {
    // never seen, but at a position where it was there
    let known = || {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .session("s")
            .put((2, 3), "l", "2", (0, 2))
    };
    let nothing = known().get_nothing(10, 11, "k");
    assert_eq!(is_caught(&nothing.history()), Rule::MonotonicReads);
    assert_eq!(
        is_caught(&absent(known(), 10, 2).history()),
        Rule::WrongAnswer
    );
    let unknowing = Story::default()
        .session("t")
        .put((0, 1), "k", "1", (0, 1))
        .session("s")
        .get_nothing(10, 11, "k");
    is_right(&unknowing.history());
}

#[test]
fn a_key_may_be_gone_when_its_time_is_over() {
    let lived_for = |start| {
        let call = Call::Put {
            key: "k".to_owned(),
            value: "1".to_owned(),
            if_revision: None,
            if_lock: None,
            ttl: Some(Duration::from_millis(100)),
        };
        let story = move || {
            Story::default()
                .session("s")
                .call(0, 1, call.clone(), written(1, 0))
        };
        told(story, start, 2)
    };
    for history in lived_for(100) {
        is_right(&history);
    }
    for history in lived_for(50) {
        assert_eq!(is_caught(&history), Rule::ReadYourWrites);
    }
}

#[test]
fn a_page_says_nothing_of_keys_outside_of_it() {
    let page = |prefix: &str, after: Option<&str>, more, entries| {
        let call = Call::List {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
        };
        let answer = Answer::Listed {
            entries,
            more,
            position: at(3),
        };
        Story::default()
            .session("s")
            .put((0, 1), "a/1", "1", (0, 1))
            .put((2, 3), "a/2", "2", (0, 2))
            .put((4, 5), "b", "3", (0, 3))
            .call(6, 7, call, Outcome::Done(answer))
            .history()
    };
    let (one, two) = (entry("a/1", "1", (1, 1)), entry("a/2", "2", (2, 2)));
    let three = entry("b", "3", (3, 3));
    is_right(&page("a/", None, false, vec![one.clone(), two.clone()]));
    is_right(&page("", None, true, vec![one.clone()]));
    is_right(&page(
        "",
        Some("a/1"),
        false,
        vec![two.clone(), three.clone()],
    ));
    is_right(&page("a/", Some("a/2"), false, Vec::new()));
    for history in [
        page("a/", None, false, vec![one.clone()]),
        page("", None, true, vec![two]),
        page("", Some("a/1"), false, vec![three]),
        page("", None, false, vec![one]),
    ] {
        assert_eq!(is_caught(&history), Rule::ReadYourWrites);
    }
}
