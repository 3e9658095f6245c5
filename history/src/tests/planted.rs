//! Faults of boards, each planted in a history that is right without it.

use super::story::{AGENT, Story, at, entry, lock, put, put_if, written};
use crate::{
    Act, Answer, Call, Do, History, Outcome, Position, Refusal, Step, StepResult,
    check::{self, Rule},
};

fn is_caught(history: &History) -> Rule {
    let violation = check::linearizable(history).unwrap_err();
    assert!(!violation.concerned.is_empty(), "{violation}");
    violation.rule
}

fn is_right(history: &History) {
    if let Err(violation) = check::linearizable(history) {
        panic!("{violation}");
    }
}

#[test]
fn a_stale_read_is_caught() {
    let read_at = |board, revision: u64| {
        let value = revision.to_string();
        Story::default()
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 3), "k", "2", (1, 2))
            .get_entry((4, 5), entry("k", &value, (revision, 1)), board)
            .history()
    };
    is_right(&read_at(2, 2));
    assert_eq!(is_caught(&read_at(1, 1)), Rule::RealTime);
    assert_eq!(is_caught(&read_at(2, 1)), Rule::WrongAnswer);
}

#[test]
fn a_key_that_is_told_to_be_missing_after_its_write_is_caught() {
    let overlapping = Story::default()
        .put((0, 3), "k", "1", (0, 1))
        .get_nothing(2, 4, "k");
    is_right(&overlapping.history());
    let stale = Story::default()
        .put((0, 1), "k", "1", (0, 1))
        .get_nothing(2, 4, "k");
    assert_eq!(is_caught(&stale.history()), Rule::NoMoment);
}

#[test]
fn a_key_that_is_told_to_be_missing_at_a_position_is_missing_there() {
    let then = |board| {
        let call = Call::Get {
            key: "k".to_owned(),
        };
        let position = at(board);
        Story::default()
            .put((0, 3), "k", "1", (0, 1))
            .call(2, 4, call, Outcome::Done(Answer::Absent { position }))
            .history()
    };
    is_right(&then(0));
    assert_eq!(is_caught(&then(1)), Rule::WrongAnswer);
    let position = Position::default();
    assert_eq!(Answer::Absent { position }.to_string(), "not there at 0.0");
}

#[test]
fn an_acknowledged_write_that_is_lost_is_caught() {
    let story = || {
        Story::default()
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 3), "l", "2", (0, 2))
    };
    let all = vec![entry("k", "1", (1, 1)), entry("l", "2", (2, 2))];
    let whole = story().list((4, 5), all.clone(), 2).history();
    is_right(&whole);
    check::nothing_lost(&whole, &all, at(2)).unwrap();

    let lost = story().list((4, 5), all[..1].to_vec(), 2).history();
    assert_eq!(is_caught(&lost), Rule::WrongAnswer);
    let violation = check::nothing_lost(&lost, &all[..1], at(2)).unwrap_err();
    assert_eq!(violation.rule, Rule::Lost);
    // a failover that has taken the board back
    let violation = check::nothing_lost(&lost, &all[..1], at(1)).unwrap_err();
    assert_eq!(violation.rule, Rule::Lost);
    let overtaken = story().put((6, 7), "m", "3", (0, 2)).history();
    assert_eq!(is_caught(&overtaken), Rule::RevisionTwice);
}

#[test]
fn a_write_of_unknown_outcome_may_be_there_or_not() {
    let story = || {
        Story::default()
            .put((0, 1), "k", "1", (0, 1))
            .call(2, 0, put("k", "2"), Outcome::Unknown)
    };
    is_right(&story().get((3, 4), "k", "1", (1, 1)).history());
    let done = entry("k", "2", (2, 1));
    is_right(&story().get_entry((3, 4), done, 2).history());
    // not seen, and seen later
    let late = story()
        .get((3, 4), "k", "1", (1, 1))
        .get_entry((5, 6), entry("k", "2", (2, 1)), 2)
        .history();
    is_right(&late);
    let report = check::linearizable(&late).unwrap();
    assert_eq!((report.unknown, report.unknown_happened), (1, 1));
    // seen, and not seen later
    let undone =
        story()
            .get_entry((3, 4), entry("k", "2", (2, 1)), 2)
            .get((5, 6), "k", "1", (1, 1));
    assert_eq!(is_caught(&undone.history()), Rule::RealTime);
}

#[test]
fn revisions_against_real_time_are_caught() {
    let reordered = Story::default()
        .put((0, 1), "k", "1", (0, 2))
        .put((2, 3), "l", "2", (0, 1));
    assert_eq!(is_caught(&reordered.history()), Rule::RealTime);
}

#[test]
fn a_write_that_is_done_twice_is_caught() {
    // the first attempt was lost on the way back, its repeat was done once more
    let twice = Story::default().put((0, 9), "k", "1", (1, 2)).history();
    assert_eq!(is_caught(&twice), Rule::RevisionOfNobody);
    let twice = Story::default()
        .put((0, 9), "k", "1", (0, 1))
        .and_then_told(written(2, 1));
    assert_eq!(is_caught(&twice.history()), Rule::TwoOutcomes);
    let once = Story::default()
        .put((0, 9), "k", "1", (0, 1))
        .and_then_told(written(1, 0));
    is_right(&once.history());
}

#[test]
fn a_lost_comparison_is_caught() {
    let second = |outcome| {
        Story::default()
            .put((0, 1), "k", "1", (0, 1))
            .call(2, 5, put_if("k", "2", Some(1)), written(2, 1))
            .call(2, 5, put_if("k", "3", Some(1)), outcome)
            .history()
    };
    is_right(&second(Outcome::Refused(Refusal::Conflict)));
    // both are told that they have won
    assert_eq!(is_caught(&second(written(3, 2))), Rule::WrongAnswer);
    // one is told that it has lost, though nobody has won
    let refused = Story::default().put((0, 1), "k", "1", (0, 1)).call(
        2,
        5,
        put_if("k", "2", Some(1)),
        Outcome::Refused(Refusal::Conflict),
    );
    assert_eq!(is_caught(&refused.history()), Rule::NoMoment);
}

#[test]
fn a_half_applied_transaction_is_caught() {
    let both = || {
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
        Story::default().call(0, 1, call, Outcome::Done(answer))
    };
    let (k, l) = (entry("k", "1", (1, 1)), entry("l", "1", (1, 1)));
    is_right(&both().list((2, 3), vec![k.clone(), l], 1).history());
    assert_eq!(
        is_caught(&both().list((2, 3), vec![k], 1).history()),
        Rule::WrongAnswer
    );
    assert_eq!(
        is_caught(&both().get_nothing(2, 3, "l").history()),
        Rule::NoMoment
    );
}

#[test]
fn a_list_that_is_of_no_one_moment_is_caught() {
    let written = || {
        Story::default()
            .put((0, 1), "k", "1", (0, 1))
            .put((2, 9), "k", "2", (1, 2))
            .put((2, 9), "l", "3", (0, 3))
    };
    let (old, new) = (entry("k", "1", (1, 1)), entry("k", "2", (2, 1)));
    let other = entry("l", "3", (3, 3));
    let listed = |entries, board| written().list((3, 8), entries, board).history();
    is_right(&listed(vec![old.clone()], 1));
    is_right(&listed(vec![new.clone()], 2));
    is_right(&listed(vec![new, other.clone()], 3));
    assert_eq!(is_caught(&listed(vec![old, other], 3)), Rule::WrongAnswer);
}

#[test]
fn two_holders_of_a_lock_are_caught() {
    let second = |start: u64| {
        Story::default()
            .of("a")
            .lock((0, 1), Act::Acquire, (1, 1))
            .of("b")
            .lock((start, start + 1), Act::Acquire, (3, 3))
            .history()
    };
    // its time was over: an end nobody was told of stands between
    is_right(&second(101));
    check::locks(&second(101)).unwrap();
    let early = second(50);
    assert_eq!(is_caught(&early), Rule::RevisionOfNobody);
    let violation = check::locks(&early).unwrap_err();
    assert_eq!(violation.rule, Rule::TwoHolders, "{violation}");

    let left = Story::default()
        .of("a")
        .lock((0, 1), Act::Acquire, (1, 1))
        .lock((2, 3), Act::Release, (1, 2))
        .of("b")
        .lock((4, 5), Act::Acquire, (3, 3))
        .history();
    is_right(&left);
    check::locks(&left).unwrap();
}

#[test]
fn a_renewed_lock_that_another_takes_is_caught() {
    let story = |start: u64| {
        Story::default()
            .of("a")
            .lock((0, 1), Act::Acquire, (1, 1))
            .lock((90, 91), Act::Renew, (1, 2))
            .of("b")
            .lock((start, start + 1), Act::Acquire, (4, 4))
            .history()
    };
    is_right(&story(190));
    assert_eq!(is_caught(&story(150)), Rule::RevisionOfNobody);
    assert_eq!(
        check::locks(&story(150)).unwrap_err().rule,
        Rule::TwoHolders
    );
}

#[test]
fn fencing_revisions_that_do_not_grow_are_caught() {
    let shrinking = Story::default()
        .of("a")
        .lock((0, 1), Act::Acquire, (5, 5))
        .lock((2, 3), Act::Release, (5, 6))
        .of("b")
        .lock((4, 5), Act::Acquire, (3, 3))
        .history();
    assert_eq!(check::locks(&shrinking).unwrap_err().rule, Rule::Fencing);
    assert_eq!(is_caught(&shrinking), Rule::RealTime);
}

#[test]
fn a_late_holder_that_is_not_fenced_is_caught() {
    let story = |outcome| {
        Story::default()
            .of("a")
            .lock((0, 1), Act::Acquire, (1, 1))
            .of("b")
            .lock((101, 102), Act::Acquire, (3, 3))
            .of("a")
            .put_fenced((110, 111), 1, outcome)
            .history()
    };
    let fenced = story(Outcome::Refused(Refusal::Conflict));
    is_right(&fenced);
    check::locks(&fenced).unwrap();
    let not_fenced = story(written(4, 0));
    assert_eq!(is_caught(&not_fenced), Rule::WrongAnswer);
    assert_eq!(check::locks(&not_fenced).unwrap_err().rule, Rule::NotFenced);
}

#[test]
fn one_who_is_told_that_a_free_lock_is_held_is_caught() {
    let story = Story::default().put((0, 1), "k", "1", (0, 1)).call(
        2,
        3,
        lock(Act::Acquire, None),
        Outcome::Done(Answer::Locked {
            held: false,
            fencing_revision: 1,
            holder: AGENT.to_owned(),
            position: at(1),
        }),
    );
    assert_eq!(is_caught(&story.history()), Rule::WrongAnswer);
}

#[test]
fn an_end_before_its_time_is_caught() {
    let lived_for = |millis| {
        Story::default()
            .lock((0, 1), Act::Acquire, (1, 1))
            .put((1, 2), "k", "1", (0, 2))
            .get_entry((millis, millis + 1), entry("k", "1", (2, 2)), 3)
            .history()
    };
    is_right(&lived_for(100));
    assert_eq!(is_caught(&lived_for(50)), Rule::RevisionOfNobody);
}

#[test]
fn an_old_epoch_behind_a_new_one_is_caught() {
    let told = |epoch, revision| {
        Outcome::Done(Answer::Written {
            position: Position { epoch, revision },
            previous_revision: revision - 1,
        })
    };
    let story = |first, second| {
        Story::default()
            .call(0, 1, put("k", "1"), told(first, 1))
            .call(2, 3, put("k", "2"), told(second, 2))
            .history()
    };
    is_right(&story(1, 2));
    assert_eq!(is_caught(&story(2, 1)), Rule::Epoch);
}

#[test]
fn what_cannot_be_decided_within_the_bound_is_said_to_be_so() {
    let mut story = Story::default();
    for key in ["a", "b", "c", "d", "e", "f"] {
        story = story.call(0, 0, put(key, "1"), Outcome::Unknown);
    }
    let history = story
        .get_entry((5, 6), entry("x", "1", (6, 6)), 7)
        .history();
    let violation = check::linearizable_within(&history, 10).unwrap_err();
    assert_eq!(violation.rule, Rule::Undecided);
    let violation = check::linearizable(&history).unwrap_err();
    assert_eq!(violation.rule, Rule::RevisionOfNobody);
}

#[test]
fn what_was_there_before_is_taken_as_it_was() {
    let story = |outcome| {
        Story::default()
            .call(0, 1, put_if("k", "2", Some(7)), outcome)
            .history()
    };
    let began = |history| History {
        began: at(8),
        entries: vec![entry("k", "1", (7, 3))],
        ..history
    };
    let report = check::linearizable(&began(story(written(9, 7)))).unwrap();
    assert_eq!(report.revisions, 1);
    let refused = story(Outcome::Refused(Refusal::Conflict));
    assert_eq!(is_caught(&began(refused)), Rule::NoMoment);
}
