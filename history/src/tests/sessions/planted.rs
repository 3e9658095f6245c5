//! Faults of session boards, each planted in a history that is right without
//! it. Sessions are `s` and `t`.

use super::{is_caught, is_right};
use crate::{
    Answer, Call, History, Outcome, Position, Refusal,
    check::{self, Rule},
    tests::story::{Story, at, entry, put, put_if, written},
};

#[test]
fn a_stale_read_after_an_own_write_is_caught() {
    let then = |revision: u64, board| {
        let value = revision.to_string();
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .session("s")
            .put((2, 3), "k", "2", (1, 2))
            .session("t")
            .put((4, 5), "k", "3", (2, 3))
            .session("s")
            .get_entry((6, 7), entry("k", &value, (revision, 1)), board)
            .history()
    };
    is_right(&then(2, 2));
    is_right(&then(3, 3));
    assert_eq!(is_caught(&then(1, 1)), Rule::ReadYourWrites);
    // what it says of the board does not make it newer
    assert_eq!(is_caught(&then(1, 3)), Rule::ReadYourWrites);
}

#[test]
fn another_session_may_be_told_what_is_older() {
    let story = Story::default()
        .session("s")
        .put((0, 1), "k", "1", (0, 1))
        .put((2, 3), "k", "2", (1, 2))
        .session("t")
        .get((4, 5), "k", "1", (1, 1));
    is_right(&story.history());
}

#[test]
fn a_board_from_before_an_own_write_is_caught() {
    let then = |board| {
        Story::default()
            .session("t")
            .put((0, 1), "l", "1", (0, 1))
            .session("s")
            .put((2, 3), "k", "2", (0, 2))
            .get((4, 5), "l", "1", (1, board))
            .history()
    };
    is_right(&then(2));
    assert_eq!(is_caught(&then(1)), Rule::ReadYourWrites);
}

#[test]
fn a_read_that_goes_back_is_caught() {
    let then = |revision: u64, board| {
        let value = revision.to_string();
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 3), "k", "2", (1, 2))
            .session("s")
            .get((4, 5), "k", "2", (2, 2))
            .list((6, 7), vec![entry("k", &value, (revision, 1))], board)
            .history()
    };
    is_right(&then(2, 2));
    assert_eq!(is_caught(&then(1, 1)), Rule::MonotonicReads);
    assert_eq!(is_caught(&then(1, 2)), Rule::MonotonicReads);
}

#[test]
fn a_board_that_goes_back_is_caught() {
    let then = |board| {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 3), "l", "2", (0, 2))
            .session("s")
            .get((4, 5), "l", "2", (2, 2))
            .get((6, 7), "k", "1", (1, board))
            .history()
    };
    is_right(&then(2));
    assert_eq!(is_caught(&then(1)), Rule::MonotonicReads);
}

#[test]
fn calls_of_a_session_that_overlap_follow_in_any_order() {
    let story = Story::default()
        .session("t")
        .put((0, 1), "k", "1", (0, 1))
        .put((2, 3), "k", "2", (1, 2))
        .session("s")
        .get((4, 8), "k", "2", (2, 2))
        .get((5, 7), "k", "1", (1, 1))
        .put((6, 9), "l", "3", (0, 4))
        .put((6, 10), "l", "4", (0, 3));
    is_right(&story.history());
}

#[test]
fn writes_in_another_order_are_caught() {
    let then = |first, second| {
        Story::default()
            .session("s")
            .put((0, 1), "k", "1", (0, first))
            .put((2, 3), "l", "2", (0, second))
            .history()
    };
    is_right(&then(1, 2));
    assert_eq!(is_caught(&then(2, 1)), Rule::MonotonicWrites);
}

#[test]
fn a_write_below_what_was_read_is_caught() {
    let then = |revision| {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 5))
            .session("s")
            .get((2, 3), "k", "1", (5, 7))
            .put((4, 5), "l", "2", (0, revision))
            .history()
    };
    is_right(&then(8));
    assert_eq!(is_caught(&then(7)), Rule::WritesFollowReads);
    assert_eq!(is_caught(&then(4)), Rule::WritesFollowReads);
}

#[test]
fn one_who_sees_a_write_and_not_what_is_before_it_is_caught() {
    let then = |entries, board| {
        Story::default()
            .session("s")
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 3), "k", "2", (1, 2))
            .put((4, 5), "l", "3", (0, 3))
            .session("t")
            .list((6, 7), entries, board)
            .history()
    };
    let (old, new) = (entry("k", "1", (1, 1)), entry("k", "2", (2, 1)));
    let other = entry("l", "3", (3, 3));
    is_right(&then(vec![old.clone()], 1));
    is_right(&then(vec![new.clone()], 2));
    is_right(&then(vec![new.clone(), other.clone()], 3));
    assert_eq!(
        is_caught(&then(vec![old, other.clone()], 3)),
        Rule::WrongAnswer
    );
    assert_eq!(is_caught(&then(vec![other.clone()], 3)), Rule::WrongAnswer);
    assert_eq!(is_caught(&then(vec![new.clone()], 3)), Rule::WrongAnswer);
    // from behind the position
    assert_eq!(is_caught(&then(vec![new, other], 2)), Rule::WrongAnswer);
}

#[test]
fn a_write_of_unknown_outcome_need_not_be_seen() {
    let story = || {
        Story::default()
            .session("t")
            .put((0, 1), "k", "1", (0, 1))
            .session("s")
            .call(2, 0, put("k", "2"), Outcome::Unknown)
    };
    let seen =
        |story: Story, start| story.get_entry((start, start + 1), entry("k", "2", (2, 1)), 2);
    is_right(&story().get((4, 5), "k", "1", (1, 1)).history());
    let late = seen(story().get((4, 5), "k", "1", (1, 1)), 6).history();
    is_right(&late);
    let report = check::sessions(&late).unwrap();
    assert_eq!((report.unknown, report.unknown_shown), (1, 1));
    // but once it is, it stays
    let undone = seen(story(), 4).get((6, 7), "k", "1", (1, 1)).history();
    assert_eq!(is_caught(&undone), Rule::MonotonicReads);
    let below = story()
        .get_entry((4, 5), entry("k", "2", (2, 1)), 3)
        .put((6, 7), "l", "3", (0, 3))
        .history();
    assert_eq!(is_caught(&below), Rule::WritesFollowReads);
}

#[test]
fn a_write_that_was_refused_is_not_seen() {
    let then = |outcome| {
        Story::default()
            .session("t")
            .call(0, 1, put_if("k", "1", Some(9)), outcome)
            .session("s")
            .get((2, 3), "k", "1", (1, 1))
            .history()
    };
    is_right(&then(Outcome::Unknown));
    let conflict = || Outcome::Refused(Refusal::Conflict);
    assert_eq!(is_caught(&then(conflict())), Rule::RefusedSeen);
    let other = Outcome::Refused(Refusal::Other("TOO_LARGE".to_owned()));
    assert_eq!(is_caught(&then(other)), Rule::RefusedSeen);
}

#[test]
fn what_nobody_wrote_is_caught() {
    let then = |value, revision, start| {
        Story::default()
            .session("t")
            .put((10, 11), "k", "1", (0, 1))
            .call(12, 0, put("l", "2"), Outcome::Unknown)
            .session("s")
            .get((start, start + 1), "k", value, (revision, revision))
            .history()
    };
    is_right(&then("1", 1, 20));
    assert_eq!(is_caught(&then("3", 2, 20)), Rule::NeverWritten);
    // into another key
    assert_eq!(is_caught(&then("2", 2, 20)), Rule::NeverWritten);
    assert_eq!(is_caught(&then("2", 1, 20)), Rule::WrongAnswer);
    // before it was asked for
    assert_eq!(is_caught(&then("1", 1, 5)), Rule::NeverWritten);
    // and once more at another revision
    assert_eq!(is_caught(&then("1", 2, 20)), Rule::NeverWritten);
}

#[test]
fn what_was_there_before_all_calls_was_written() {
    let then = |value, revision| History {
        began: at(8),
        entries: vec![entry("k", "1", (7, 3))],
        ..Story::default()
            .session("t")
            .call(0, 0, put("k", "2"), Outcome::Unknown)
            .session("s")
            .get((2, 3), "k", value, (revision, 9))
            .history()
    };
    is_right(&then("1", 7));
    is_right(&then("2", 9));
    assert_eq!(is_caught(&then("1", 6)), Rule::NeverWritten);
    assert_eq!(is_caught(&then("2", 6)), Rule::NeverWritten);
}

#[test]
fn a_write_of_unknown_outcome_that_is_done_twice_is_caught() {
    let then = |again, revision| {
        let story = Story::default()
            .session("t")
            .call(0, 0, put("k", "1"), Outcome::Unknown)
            .session("s")
            .get((2, 3), "k", "1", (1, 1))
            .get((4, 5), "k", "1", (revision, revision));
        if again {
            story.call(1, 0, put("k", "1"), Outcome::Unknown).history()
        } else {
            story.history()
        }
    };
    is_right(&then(false, 1));
    is_right(&then(true, 2));
    assert_eq!(is_caught(&then(false, 2)), Rule::RevisionOfNobody);
}

#[test]
fn one_position_of_two_writes_and_two_outcomes_of_one_are_caught() {
    let twice = Story::default()
        .put((0, 1), "k", "1", (0, 1))
        .put((2, 3), "l", "2", (0, 1));
    assert_eq!(is_caught(&twice.history()), Rule::RevisionTwice);
    let others = Story::default()
        .put((0, 9), "k", "1", (0, 1))
        .and_then_told(written(2, 1));
    assert_eq!(is_caught(&others.history()), Rule::TwoOutcomes);
}

fn in_epoch(epoch: u64, revision: u64, previous_revision: u64) -> Outcome {
    Outcome::Done(Answer::Written {
        position: Position { epoch, revision },
        previous_revision,
    })
}

fn read_in_epoch(story: Story, start: u64, revision: u64, board: (u64, u64)) -> Story {
    let call = Call::Get {
        key: "k".to_owned(),
    };
    let answer = Answer::Found {
        entry: entry("k", &revision.to_string(), (revision, 1)),
        position: Position {
            epoch: board.0,
            revision: board.1,
        },
    };
    story.call(start, start + 1, call, Outcome::Done(answer))
}

#[test]
fn positions_of_a_later_epoch_are_later() {
    let writes = |first: (u64, u64), second: (u64, u64)| {
        Story::default()
            .session("s")
            .call(
                0,
                1,
                put("k", &first.1.to_string()),
                in_epoch(first.0, first.1, 0),
            )
            .call(
                2,
                3,
                put("k", &second.1.to_string()),
                in_epoch(second.0, second.1, 0),
            )
    };
    is_right(&writes((1, 5), (2, 3)).history());
    assert_eq!(
        is_caught(&writes((2, 3), (1, 5)).history()),
        Rule::MonotonicWrites
    );
    let then =
        |revision, board| read_in_epoch(writes((1, 5), (2, 3)), 4, revision, board).history();
    is_right(&then(3, (2, 3)));
    is_right(&then(3, (3, 3)));
    assert_eq!(is_caught(&then(5, (1, 5))), Rule::ReadYourWrites);
    assert_eq!(is_caught(&then(5, (2, 6))), Rule::ReadYourWrites);
}

#[test]
fn what_an_old_primary_says_to_one_who_has_seen_the_new_is_caught() {
    let then = |board| {
        let story = Story::default()
            .session("t")
            .call(0, 1, put("k", "4"), in_epoch(1, 4, 0))
            .call(2, 3, put("l", "5"), in_epoch(2, 5, 0))
            .session("s");
        let story = read_in_epoch(story, 4, 4, (2, 5));
        read_in_epoch(story, 6, 4, board).history()
    };
    is_right(&then((2, 5)));
    is_right(&then((3, 4)));
    assert_eq!(is_caught(&then((1, 9))), Rule::MonotonicReads);
}
