//! Each kind of damage, planted in the history of a sound run.

use std::{collections::BTreeMap, time::Duration};

use super::{REQUEST, REVOKE, violations};
use crate::faults::{
    history::{Act, Answer, Attempt, Call},
    record::{Audit, Change, Grant, Outcome, Record},
};

type Run = (Vec<Call>, Record, BTreeMap<String, String>);

/// Two grants, the second one revoked; the answer to its request was lost once.
fn sound() -> Run {
    let unknown = Answer::Unknown("connection".to_owned());
    let calls = vec![
        call(
            "ask-1",
            Act::Request,
            vec![granted("grt_1"), granted("grt_1")],
        ),
        call("ask-2", Act::Request, vec![unknown, granted("grt_2")]),
        call("end-2", revocation("grt_2"), vec![revoked("grt_2", 3)]),
    ];
    let record = Record {
        grants: vec![grant("grt_1", 1, None), grant("grt_2", 2, Some(3))],
        outcomes: vec![
            outcome(REQUEST, "ask-1", "grt_1"),
            outcome(REQUEST, "ask-2", "grt_2"),
            outcome(REVOKE, "end-2", "grt_2"),
        ],
        changes: vec![
            change(1, "grant_issued", "grt_1"),
            change(2, "grant_issued", "grt_2"),
            change(3, "grant_revoked", "grt_2"),
        ],
        head: 3,
        audit: vec![
            audit("grant.request", "grt_1", "ask-1"),
            audit("grant.request", "grt_2", "ask-2"),
            audit("grant.revoke", "grt_2", "end-2"),
        ],
    };
    let validity = [("grt_1", "valid"), ("grt_2", "GRANT_REVOKED")];
    let validity = validity.map(|(id, said)| (id.to_owned(), said.to_owned()));
    (calls, record, BTreeMap::from(validity))
}

/// Fails unless the damage is found in these words.
fn is_found(words: &str, damage: impl FnOnce(&mut Run)) {
    let mut run = sound();
    damage(&mut run);
    let found = violations(&run.0, &run.1, &run.2);
    assert!(
        found.iter().any(|violation| violation.contains(words)),
        "`{words}` is not in {found:#?}"
    );
}

#[test]
fn a_sound_run_has_no_violations() {
    let (calls, record, validity) = sound();
    assert_eq!(violations(&calls, &record, &validity), [""; 0]);
}

#[test]
fn a_lost_grant_is_found() {
    is_found("`ask-1`: lost grant `grt_1`", |(_, record, _)| {
        record.grants.remove(0);
    });
    is_found("`grt_1` should be `valid`", |(_, _, validity)| {
        validity.insert("grt_1".to_owned(), "GRANT_NOT_FOUND".to_owned());
    });
}

#[test]
fn a_doubled_grant_is_found() {
    is_found("doubled grant `grt_3`", |(_, record, _)| {
        record.grants.push(grant("grt_3", 4, None));
        record.changes.push(change(4, "grant_issued", "grt_3"));
        record.head = 4;
        record.audit.push(audit("grant.request", "grt_3", "ask-1"));
    });
    is_found("2 audit entries `grant.request`", |(_, record, _)| {
        record.audit.push(audit("grant.request", "grt_1", "ask-1"));
    });
    is_found("in the stream at Some([1, 4])", |(_, record, _)| {
        record.changes.push(change(4, "grant_issued", "grt_1"));
        record.head = 4;
    });
}

#[test]
fn a_changed_outcome_is_found() {
    is_found("`ask-1`: changed outcome", |(calls, _, _)| {
        calls[0].attempts[1].answer = granted("grt_3");
    });
    is_found("`ask-1`: changed outcome", |(calls, _, _)| {
        calls[0].attempts[1].answer = Answer::Granted {
            grant_id: "grt_1".to_owned(),
            token: Some("another token".to_owned()),
        };
    });
    is_found("`end-2`: was told `grt_2` at 7", |(calls, _, _)| {
        calls[2].attempts[0].answer = revoked("grt_2", 7);
    });
    is_found("`ask-1`: was told `grt_1`", |(_, record, _)| {
        record.outcomes[0].grant_id = "grt_2".to_owned();
    });
}

#[test]
fn a_lost_revocation_is_found() {
    is_found("`end-2`: lost revocation", |(_, record, _)| {
        record.grants[1].revoked_revision = None;
    });
    is_found("`grt_2` should be `GRANT_REVOKED`", |(_, _, validity)| {
        validity.insert("grt_2".to_owned(), "valid".to_owned());
    });
}

#[test]
fn a_revocation_that_nobody_asked_for_is_found() {
    is_found("which nobody asked for", |(_, record, _)| {
        record.grants[0].revoked_revision = Some(4);
    });
}

#[test]
fn a_hole_in_the_stream_is_found() {
    is_found("revision 2 is missing", |(_, record, _)| {
        record.changes.remove(1);
    });
    is_found("the stream's head is 4", |(_, record, _)| record.head = 4);
}

#[test]
fn revisions_against_the_order_of_time_are_found() {
    is_found("`ask-2` at 2 began after `end-2` at 3", |(calls, _, _)| {
        for attempt in &mut calls[1].attempts {
            (attempt.start, attempt.end) = (Duration::from_secs(1), Duration::from_secs(2));
        }
    });
}

#[test]
fn a_missing_audit_entry_is_found() {
    is_found("0 audit entries `grant.revoke`", |(_, record, _)| {
        record.audit.remove(2);
    });
}

#[test]
fn a_call_without_an_answer_and_a_refused_one_are_found() {
    is_found("`ask-1` was never resolved", |(calls, _, _)| {
        calls[0].attempts = vec![attempt(Answer::Unknown("timeout".to_owned()))];
    });
    is_found("`ask-1` was refused", |(calls, _, _)| {
        calls[0].attempts = vec![attempt(Answer::Refused("INTERNAL".to_owned()))];
    });
}

fn call(request_id: &str, act: Act, answers: Vec<Answer>) -> Call {
    Call {
        attempts: answers.into_iter().map(attempt).collect(),
        ..Call::new(request_id.to_owned(), act)
    }
}

fn attempt(answer: Answer) -> Attempt {
    Attempt {
        start: Duration::ZERO,
        end: Duration::ZERO,
        answer,
    }
}

fn granted(grant_id: &str) -> Answer {
    Answer::Granted {
        grant_id: grant_id.to_owned(),
        token: Some(format!("token of {grant_id}")),
    }
}

fn revoked(grant_id: &str, revision: u64) -> Answer {
    Answer::Revoked {
        grant_id: grant_id.to_owned(),
        revision,
    }
}

fn revocation(grant_id: &str) -> Act {
    Act::Revoke {
        grant_id: grant_id.to_owned(),
        token: format!("token of {grant_id}"),
    }
}

fn grant(id: &str, revision: i64, revoked_revision: Option<i64>) -> Grant {
    Grant {
        id: id.to_owned(),
        granted: true,
        revision,
        revoked_revision,
    }
}

fn outcome(method: &str, request_id: &str, grant_id: &str) -> Outcome {
    Outcome {
        method: method.to_owned(),
        request_id: request_id.to_owned(),
        grant_id: grant_id.to_owned(),
    }
}

fn change(revision: i64, kind: &str, grant_id: &str) -> Change {
    Change {
        revision,
        kind: kind.to_owned(),
        grant_id: grant_id.to_owned(),
    }
}

fn audit(action: &str, grant_id: &str, request_id: &str) -> Audit {
    Audit {
        action: action.to_owned(),
        grant_id: grant_id.to_owned(),
        outcome: "ok".to_owned(),
        request_id: Some(request_id.to_owned()),
        count: 1,
    }
}
