//! Transactions of several keys.

use authguardian_proto::reason::Reason;
use control_plane::blackboard::{Act, Compare, Condition, Deed, Operation, Outcome, Performed};

use super::{acquire, json, key, write};
use crate::rig::Rig;

fn compare(at: &str, condition: Condition) -> Compare {
    Compare {
        key: key(at),
        condition,
    }
}

fn put(at: &str, value: &str) -> Operation {
    Operation {
        key: key(at),
        deed: Some(Deed::Put {
            value: json(value),
            ttl: None,
        }),
    }
}

fn erase(at: &str) -> Operation {
    Operation {
        key: key(at),
        deed: Some(Deed::Delete),
    }
}

fn fetch(at: &str) -> Operation {
    Operation {
        key: key(at),
        deed: None,
    }
}

fn transact(compare: Vec<Compare>, then: Vec<Operation>, otherwise: Vec<Operation>) -> Act {
    Act::Transact {
        compare,
        then,
        otherwise,
    }
}

fn done(outcome: &Outcome) -> (bool, &[Performed]) {
    match outcome {
        Outcome::Transact {
            succeeded,
            performed,
        } => (*succeeded, performed),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_of_it_is_one_revision_and_reads_see_what_was_before() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", write("a", "1"))
        .await
        .unwrap();
    let act = transact(
        vec![
            compare("a", Condition::Revision(1)),
            compare("b", Condition::Exists(false)),
        ],
        vec![put("a", "2"), put("b", "3"), fetch("a"), erase("c")],
        vec![],
    );
    let written = rig.write(&session, "strong", act).await.unwrap();
    let (succeeded, performed) = done(&written.outcome);
    assert!(succeeded);
    assert_eq!(written.position.revision, 2);
    let read = performed[2].entry.as_ref().unwrap();
    assert_eq!(read.value.as_ref().unwrap().as_str(), "1");
    let before: Vec<_> = performed.iter().map(|one| one.previous_revision).collect();
    assert_eq!(before, [1, 0, 0, 0]);
    for (at, value) in [("a", "2"), ("b", "3")] {
        let entry = rig.read(&session, "strong", at).await.unwrap().entry;
        assert_eq!((entry.value.unwrap().as_str(), entry.revision), (value, 2));
    }
}

#[tokio::test]
async fn where_a_comparison_fails_the_other_list_is_done() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    let value = r#"{"x": 1.50, "y": [1]}"#;
    rig.write(&session, "strong", write("a", value))
        .await
        .unwrap();
    rig.write(&session, "strong", acquire("l", 60))
        .await
        .unwrap();
    let holds = [
        compare("a", Condition::Revision(1)),
        compare("a", Condition::Exists(true)),
        compare("a", Condition::Value(json(r#"{"y":[1],"x":1.50}"#))),
        compare("none", Condition::Revision(0)),
        compare("l", Condition::Fencing(2)),
    ];
    let fails = [
        compare("a", Condition::Revision(2)),
        compare("a", Condition::Exists(false)),
        compare("a", Condition::Value(json(r#"{"y":[1],"x":1.5}"#))),
        compare("none", Condition::Value(json("null"))),
        compare("l", Condition::Fencing(1)),
        compare("a", Condition::Fencing(1)),
    ];
    let tried = async |compare: Vec<Compare>| {
        let act = transact(compare, vec![], vec![fetch("a")]);
        let written = rig.write(&session, "strong", act).await.unwrap();
        let (succeeded, performed) = done(&written.outcome);
        assert_eq!(performed.len(), usize::from(!succeeded));
        assert_eq!(written.position.revision, 2, "nothing was written");
        succeeded
    };
    assert!(tried(holds.to_vec()).await);
    for fails in fails {
        let mut all = holds.to_vec();
        all.push(fails.clone());
        assert!(!tried(all).await, "{fails:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_as_a_whole_is_not_done_at_all() {
    let rig = Rig::open().await;
    let session = rig.analyst().await;
    rig.write(&session, "strong", acquire("l", 60))
        .await
        .unwrap();
    let large = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    let many = (0..129).map(|number| fetch(&format!("k{number}")));
    for (act, reason, field) in [
        (
            transact(vec![], vec![put("a", "1"), put("l", "1")], vec![]),
            Reason::RevisionConflict,
            "then[1].key",
        ),
        (
            transact(vec![], vec![put("a", "1"), erase("a")], vec![]),
            Reason::InvalidArgument,
            "then[1].key",
        ),
        (
            transact(vec![], vec![], many.collect()),
            Reason::InvalidArgument,
            "else",
        ),
        (
            transact(
                vec![],
                (0..5).map(|n| put(&format!("k{n}"), &large)).collect(),
                vec![],
            ),
            Reason::TooLarge,
            "then",
        ),
    ] {
        let refused = rig.write(&session, "strong", act).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
        assert_eq!(refused.problem().field.as_deref(), Some(field));
    }
    assert_eq!(rig.list(&session, "strong", "").await.position.revision, 1);
    let elsewhere = rig
        .write(
            &session,
            "session",
            transact(vec![], vec![put("a", "1")], vec![]),
        )
        .await
        .unwrap_err();
    assert_eq!(elsewhere.reason(), Reason::UnsupportedForLevel);
}
