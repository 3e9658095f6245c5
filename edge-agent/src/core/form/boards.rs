//! Arguments about boards: keys, values, positions, and the lists of a
//! transaction, each read into the message that it becomes.

use std::collections::HashSet;

use authguardian_proto::{
    blackboard::v1::{
        Compare, Erase, Fetch, LockHeld, Operation, Write, compare::Condition, operation::Action,
    },
    board::{
        Key, MAX_DEPTH, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, MAX_TTL_SECONDS,
        MAX_VALUE_BYTES,
    },
    common::v1::Position,
    ids::BoardName,
    reason::{Problem, Reason},
};
use serde_json::{Map, Value, json};

use super::{shortened, whole};

/// Text without NUL, for schemas.
const KEY: &str = r"^[^\x00]+$";
const PREFIX: &str = r"^[^\x00]*$";

/// A position as text, for schemas.
const POSITION: &str = r"^[0-9]{1,18}\.[0-9]{1,18}$";
const POSITION_EXPECTED: &str =
    "expected a revision of the board, or `epoch.revision` such as `3.120`";

const REVISION_EXPECTED: &str = "expected a whole number, 0 or more";

pub(super) fn check_board(name: &str, text: &str) -> Result<(), Problem> {
    let parsed = text.parse::<BoardName>();
    parsed
        .map(drop)
        .map_err(|error| Problem::invalid(name, error.to_string()))
}

/// Refuses what is no key.
///
/// # Errors
/// `INVALID_ARGUMENT` or `TOO_LARGE`, at the field of this name.
pub fn check_key(name: &str, text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::invalid(
            name,
            format!("expected {}", Key::EXPECTED),
        ));
    }
    check_prefix(name, text)
}

/// Refuses what no key can begin with.
///
/// # Errors
/// `INVALID_ARGUMENT` or `TOO_LARGE`, at the field of this name.
pub fn check_prefix(name: &str, text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::invalid(name, "expected text without NUL"));
    }
    if text.len() > MAX_KEY_BYTES {
        let detail = format!("has {} bytes, expected at most {MAX_KEY_BYTES}", text.len());
        return Err(Problem::new(Reason::TooLarge, detail).at(name));
    }
    Ok(())
}

/// The text of a value as it is kept, if it is not too long.
pub(super) fn read_value(name: &str, value: &Value) -> Result<String, Problem> {
    if is_deeper(value, MAX_DEPTH) {
        let detail = format!("has more than {MAX_DEPTH} arrays and objects in each other");
        return Err(Problem::invalid(name, detail));
    }
    let text = value.to_string();
    if text.len() > MAX_VALUE_BYTES {
        let detail = format!(
            "has {} bytes as JSON text, expected at most {MAX_VALUE_BYTES}",
            text.len()
        );
        return Err(Problem::new(Reason::TooLarge, detail).at(name));
    }
    Ok(text)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_in = |item: &Value| levels == 0 || is_deeper(item, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(is_in),
        Value::Object(members) => levels == 0 || members.values().any(is_in),
        _ => false,
    }
}

pub(super) fn read_revision(name: &str, value: &Value) -> Result<u64, Problem> {
    let small = || whole(value).map(u64::from);
    value
        .as_u64()
        .or_else(small)
        .filter(|revision| i64::try_from(*revision).is_ok())
        .ok_or_else(|| Problem::invalid(name, REVISION_EXPECTED))
}

/// A number is a revision of the present epoch, which 0 stands for.
pub(super) fn read_position(name: &str, value: &Value) -> Result<Position, Problem> {
    let invalid = || Problem::invalid(name, POSITION_EXPECTED);
    let Some(text) = value.as_str() else {
        let revision = read_revision(name, value).map_err(|_| invalid())?;
        return Ok(Position { epoch: 0, revision });
    };
    let number = |text: &str| {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse()
            .ok()
            .filter(|number| is_plain && i64::try_from(*number).is_ok())
    };
    let read = || {
        let (epoch, revision) = text.split_once('.')?;
        Some(Position {
            epoch: number(epoch)?,
            revision: number(revision)?,
        })
    };
    read().ok_or_else(invalid)
}

pub(super) fn read_lock(name: &str, value: &Value) -> Result<LockHeld, Problem> {
    let item = Item::read(name, value, &["key", "fencing_revision"])?;
    Ok(LockHeld {
        key: item.key()?,
        fencing_revision: item.revision("fencing_revision")?,
    })
}

pub(super) fn read_compares(name: &str, value: &Value) -> Result<Vec<Compare>, Problem> {
    items(name, value)?
        .map(|(at, item)| read_compare(&at, item))
        .collect()
}

const CONDITIONS: [&str; 4] = ["revision", "fencing_revision", "value", "exists"];

fn read_compare(at: &str, value: &Value) -> Result<Compare, Problem> {
    let [revision, fencing, value_, exists] = CONDITIONS;
    let item = Item::read(at, value, &["key", revision, fencing, value_, exists])?;
    let key = item.key()?;
    let mut given = CONDITIONS
        .into_iter()
        .filter(|name| item.members.contains_key(*name));
    let condition = match (given.next(), given.next()) {
        (Some("revision"), None) => Condition::Revision(item.revision(revision)?),
        (Some("fencing_revision"), None) => Condition::FencingRevision(item.revision(fencing)?),
        (Some("exists"), None) => Condition::Exists(item.flag(exists)?),
        (Some(_), None) => Condition::Value(item.value()?),
        _ => {
            let detail = format!("expected exactly one of `{}`", CONDITIONS.join("`, `"));
            return Err(Problem::invalid(at, detail));
        }
    };
    Ok(Compare {
        key,
        condition: Some(condition),
    })
}

pub(super) fn read_operations(name: &str, value: &Value) -> Result<Vec<Operation>, Problem> {
    let mut written = HashSet::new();
    let mut read = |(at, item): (String, &Value)| {
        let operation = read_operation(&at, item)?;
        let writes = !matches!(operation.action, Some(Action::Get(_)));
        if writes && !written.insert(operation.key.clone()) {
            return Err(Problem::invalid(format!("{at}.key"), "is written twice"));
        }
        Ok(operation)
    };
    items(name, value)?.map(&mut read).collect()
}

fn read_operation(at: &str, value: &Value) -> Result<Operation, Problem> {
    let item = Item::read(at, value, &["op", "key", "value", "ttl_seconds"])?;
    let op = item.members.get("op").and_then(|op| op.as_str());
    let action = match op {
        Some("put") => Action::Put(Write {
            value: item.value()?,
            ttl_seconds: item.ttl()?,
        }),
        Some("delete") => Action::Delete(Erase {}),
        Some("get") => Action::Get(Fetch {}),
        _ => {
            let detail = "expected one of `put`, `delete`, `get`";
            return Err(item.invalid("op", detail));
        }
    };
    let only_for_put = ["value", "ttl_seconds"]
        .into_iter()
        .find(|name| item.members.contains_key(*name));
    if let (Some(name), false) = (only_for_put, matches!(action, Action::Put(_))) {
        return Err(item.invalid(name, "is only for `put`"));
    }
    Ok(Operation {
        key: item.key()?,
        action: Some(action),
    })
}

/// Refuses a transaction whose values are too much together.
pub(super) fn check_together(compare: &[Compare], lists: [&[Operation]; 2]) -> Result<(), Problem> {
    let compared = compare.iter().map(|compare| {
        let value = match &compare.condition {
            Some(Condition::Value(text)) => text.len(),
            _ => 0,
        };
        compare.key.len() + value
    });
    let written = lists.into_iter().flatten().map(|operation| {
        let value = match &operation.action {
            Some(Action::Put(write)) => write.value.len(),
            _ => 0,
        };
        operation.key.len() + value
    });
    let together: usize = compared.chain(written).sum();
    if together > MAX_TRANSACTION_BYTES {
        let detail = format!(
            "the keys and values of a transaction have {together} bytes together, expected at most {MAX_TRANSACTION_BYTES}"
        );
        return Err(Problem::new(Reason::TooLarge, detail).at("then"));
    }
    Ok(())
}

/// The items of a list, each with its place.
fn items<'a>(
    name: &'a str,
    value: &'a Value,
) -> Result<impl Iterator<Item = (String, &'a Value)>, Problem> {
    let items = value
        .as_array()
        .ok_or_else(|| Problem::invalid(name, "expected a list"))?;
    if items.len() > MAX_OPERATIONS {
        let detail = format!(
            "has {} items, expected at most {MAX_OPERATIONS}",
            items.len()
        );
        return Err(Problem::new(Reason::TooLarge, detail).at(name));
    }
    let place = move |(index, item)| (format!("{name}[{index}]"), item);
    Ok(items.iter().enumerate().map(place))
}

/// An object with known members, of which those that are null are not given;
/// but a `value` may be null.
struct Item<'a> {
    at: &'a str,
    members: Map<String, Value>,
}

impl<'a> Item<'a> {
    fn read(at: &'a str, value: &Value, known: &[&str]) -> Result<Self, Problem> {
        let Some(members) = value.as_object() else {
            return Err(Problem::invalid(at, "expected an object"));
        };
        if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let detail = format!("there is no such member; expected `{}`", known.join("`, `"));
            return Err(Problem::invalid(
                format!("{at}.{}", shortened(unknown)),
                detail,
            ));
        }
        let mut members = members.clone();
        members.retain(|name, value| name == "value" || !value.is_null());
        Ok(Self { at, members })
    }

    fn key(&self) -> Result<String, Problem> {
        let name = format!("{}.key", self.at);
        let key = self.get("key")?.as_str();
        let key = key.ok_or_else(|| Problem::invalid(&name, "expected a string"))?;
        check_key(&name, key)?;
        Ok(key.to_owned())
    }

    fn value(&self) -> Result<String, Problem> {
        read_value(&format!("{}.value", self.at), self.get("value")?)
    }

    fn revision(&self, name: &str) -> Result<u64, Problem> {
        read_revision(&format!("{}.{name}", self.at), self.get(name)?)
    }

    fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = self.get(name)?.as_bool();
        flag.ok_or_else(|| self.invalid(name, "expected true or false"))
    }

    fn ttl(&self) -> Result<Option<u64>, Problem> {
        let Some(value) = self.members.get("ttl_seconds") else {
            return Ok(None);
        };
        let seconds = whole(value).filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds));
        if seconds.is_none() {
            let detail = format!("expected a whole number from 1 to {MAX_TTL_SECONDS}");
            return Err(self.invalid("ttl_seconds", detail));
        }
        Ok(seconds.map(u64::from))
    }

    fn get(&self, name: &str) -> Result<&Value, Problem> {
        let value = self.members.get(name);
        value.ok_or_else(|| self.invalid(name, "is required"))
    }

    fn invalid(&self, name: &str, detail: impl Into<String>) -> Problem {
        Problem::invalid(format!("{}.{name}", self.at), detail)
    }
}

pub(super) fn key_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("string")),
        ("pattern", json!(KEY)),
        ("maxLength", json!(MAX_KEY_BYTES)),
    ]
}

pub(super) fn prefix_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("string")),
        ("pattern", json!(PREFIX)),
        ("maxLength", json!(MAX_KEY_BYTES)),
    ]
}

pub(super) fn json_schema() -> Vec<(&'static str, Value)> {
    vec![("type", any_type())]
}

fn any_type() -> Value {
    json!(["object", "array", "string", "number", "boolean", "null"])
}

fn revision_schema_value() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })
}

pub(super) fn revision_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("integer")),
        ("minimum", json!(0)),
        ("maximum", json!(i64::MAX)),
    ]
}

pub(super) fn position_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!(["string", "integer"])),
        ("pattern", json!(POSITION)),
        ("minimum", json!(0)),
        ("maximum", json!(i64::MAX)),
    ]
}

fn key_schema_value() -> Value {
    json!({ "type": "string", "pattern": KEY, "minLength": 1, "maxLength": MAX_KEY_BYTES })
}

pub(super) fn lock_schema() -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("object")),
        (
            "properties",
            json!({ "key": key_schema_value(), "fencing_revision": revision_schema_value() }),
        ),
        ("required", json!(["key", "fencing_revision"])),
        ("additionalProperties", json!(false)),
    ]
}

pub(super) fn compares_schema() -> Vec<(&'static str, Value)> {
    let of = |name: &str, schema: Value| {
        json!({
            "type": "object",
            "properties": { "key": key_schema_value(), name: schema },
            "required": ["key", name],
            "additionalProperties": false,
        })
    };
    let items = json!({ "anyOf": [
        of("revision", revision_schema_value()),
        of("fencing_revision", revision_schema_value()),
        of("value", json!({ "type": any_type() })),
        of("exists", json!({ "type": "boolean" })),
    ] });
    list_schema(items)
}

pub(super) fn operations_schema() -> Vec<(&'static str, Value)> {
    let plain = json!({
        "type": "object",
        "properties": { "op": { "enum": ["delete", "get"] }, "key": key_schema_value() },
        "required": ["op", "key"],
        "additionalProperties": false,
    });
    let put = json!({
        "type": "object",
        "properties": {
            "op": { "const": "put" },
            "key": key_schema_value(),
            "value": { "type": any_type() },
            "ttl_seconds": { "type": ["integer", "null"], "minimum": 1, "maximum": MAX_TTL_SECONDS },
        },
        "required": ["op", "key", "value"],
        "additionalProperties": false,
    });
    list_schema(json!({ "anyOf": [put, plain] }))
}

fn list_schema(items: Value) -> Vec<(&'static str, Value)> {
    vec![
        ("type", json!("array")),
        ("maxItems", json!(MAX_OPERATIONS)),
        ("items", items),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        let conditions: Vec<Condition> =
            read.into_iter().filter_map(|read| read.condition).collect();
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
}
