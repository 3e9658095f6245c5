//! What is read of arguments about boards, and what is refused.

use authguardian_proto::blackboard::v1::compare::Condition;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn field<T: std::fmt::Debug>(read: Result<T, Problem>) -> (Reason, String) {
    let problem = read.unwrap_err();
    (problem.reason, problem.field.unwrap())
}

fn invalid(field: &str) -> (Reason, String) {
    (Reason::InvalidArgument, field.to_owned())
}

#[test]
fn keys_are_measured_in_bytes() {
    for key in ["a", " ", "a/b c\"'%00é🚀\n", &"é".repeat(256)] {
        assert!(check_key("key", key).is_ok(), "{key}");
    }
    assert_eq!(field(check_key("key", "")), invalid("key"));
    assert_eq!(field(check_key("key", "a\0")), invalid("key"));
    let long = "é".repeat(256) + "a";
    assert_eq!(field(check_key("key", &long)).0, Reason::TooLarge);
    assert!(check_prefix("prefix", "").is_ok());
}

#[test]
fn values_are_measured_as_text() {
    let exactly = json!("x".repeat(MAX_VALUE_BYTES - 2));
    assert_eq!(
        read_value("value", &exactly).unwrap().len(),
        MAX_VALUE_BYTES
    );
    let more = json!("x".repeat(MAX_VALUE_BYTES - 1));
    let at = (Reason::TooLarge, "value".to_owned());
    assert_eq!(field(read_value("value", &more)), at);
}

#[test]
fn values_are_as_deep_as_every_face_can_carry_them() {
    let nested = |levels: usize| {
        let text = "[".repeat(levels) + &"]".repeat(levels);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    assert!(read_value("value", &nested(MAX_DEPTH)).is_ok());
    assert_eq!(
        field(read_value("value", &nested(MAX_DEPTH + 1))),
        invalid("value")
    );
}

#[test]
fn boards_have_plain_names() {
    for name in ["a", "strong", "team-7_b", &"a".repeat(64)] {
        assert!(check_board("board", name).is_ok(), "{name}");
    }
    for name in ["", "A", "7a", "-a", "a b", "ä", &"a".repeat(65)] {
        assert_eq!(
            field(check_board("board", name)),
            invalid("board"),
            "{name}"
        );
    }
}

#[test]
fn compares_are_read_and_refused_by_their_place() {
    let read = read_compares(
        "compare",
        &json!([
            {"key": "a", "revision": 0},
            {"key": "a", "fencing_revision": 7.0},
            {"key": "a", "value": null},
            {"key": "a", "exists": false, "revision": null},
        ]),
    )
    .unwrap();
    let conditions: Vec<Condition> = read.into_iter().filter_map(|read| read.condition).collect();
    assert_eq!(
        conditions,
        [
            Condition::Revision(0),
            Condition::FencingRevision(7),
            Condition::Value("null".into()),
            Condition::Exists(false)
        ]
    );
    for (bad, at) in [
        (json!({}), "compare"),
        (json!([7]), "compare[0]"),
        (
            json!([{"key": "a", "exists": true}, {"key": "a"}]),
            "compare[1]",
        ),
        (
            json!([{"key": "a", "exists": true, "revision": 1}]),
            "compare[0]",
        ),
        (json!([{"exists": true}]), "compare[0].key"),
        (json!([{"key": "", "exists": true}]), "compare[0].key"),
        (json!([{"key": "a", "exists": 1}]), "compare[0].exists"),
        (json!([{"key": "a", "revision": -1}]), "compare[0].revision"),
        (json!([{"key": "a", "version": 1}]), "compare[0].version"),
    ] {
        assert_eq!(field(read_compares("compare", &bad)), invalid(at), "{bad}");
    }
}

#[test]
fn operations_are_read_and_refused_by_their_place() {
    let good = json!([
        {"op": "put", "key": "a", "value": [1.5], "ttl_seconds": 5},
        {"op": "get", "key": "a"},
        {"op": "delete", "key": "b", "ttl_seconds": null},
    ]);
    assert_eq!(read_operations("then", &good).unwrap().len(), 3);
    for (bad, at) in [
        (json!("a"), "then"),
        (json!([{"key": "a"}]), "then[0].op"),
        (json!([{"op": "cas", "key": "a"}]), "then[0].op"),
        (json!([{"op": "put", "key": "a"}]), "then[0].value"),
        (json!([{"op": "put", "value": 1}]), "then[0].key"),
        (
            json!([{"op": "get", "key": "a", "value": 1}]),
            "then[0].value",
        ),
        (
            json!([{"op": "put", "key": "a", "value": 1, "ttl_seconds": 0}]),
            "then[0].ttl_seconds",
        ),
        (
            json!([{"op": "put", "key": "a", "value": 1}, {"op": "delete", "key": "a"}]),
            "then[1].key",
        ),
    ] {
        assert_eq!(field(read_operations("then", &bad)), invalid(at), "{bad}");
    }
    let many = vec![json!({"op": "get", "key": "a"}); 129];
    let at = (Reason::TooLarge, "then".to_owned());
    assert_eq!(field(read_operations("then", &json!(many))), at);
}

#[test]
fn a_transaction_is_bounded_as_a_whole() {
    let put = |index: usize| json!({"op": "put", "key": format!("{index}"), "value": "x".repeat(MAX_VALUE_BYTES - 2)});
    let puts = |count: usize| {
        let list: Vec<Value> = (0..count).map(put).collect();
        read_operations("then", &json!(list)).unwrap()
    };
    assert!(check_together(&[], [&puts(3), &[]]).is_ok());
    let at = (Reason::TooLarge, "then".to_owned());
    assert_eq!(field(check_together(&[], [&puts(2), &puts(2)])), at);
}

#[test]
fn what_is_no_position_is_refused() {
    for bad in [
        json!(""),
        json!("1"),
        json!("1."),
        json!("1.2.3"),
        json!("+1.2"),
        json!(-1),
        json!(1.5),
        json!([]),
    ] {
        assert_eq!(
            field(read_position("after", &bad)),
            invalid("after"),
            "{bad}"
        );
    }
    let of_present = read_position("after", &json!(7)).unwrap();
    assert_eq!(
        of_present,
        Position {
            epoch: 0,
            revision: 7
        }
    );
}

proptest! {
    #[test]
    fn a_position_reads_back(epoch in 0..=i64::MAX as u64, revision in 0..=i64::MAX as u64) {
        let text = json!(format!("{epoch}.{revision}"));
        prop_assert_eq!(read_position("after", &text).unwrap(), Position { epoch, revision });
    }

    #[test]
    fn any_text_is_a_position_or_not(text in ".{0,40}") {
        let _ = read_position("after", &json!(text));
    }
}
