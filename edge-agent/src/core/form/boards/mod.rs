//! Arguments about boards: keys, values, positions, and the lists of a
//! transaction, each read into the message that it becomes.

mod item;
mod schema;
#[cfg(test)]
mod tests;
mod transaction;

use authguardian_proto::{
    blackboard::v1::LockHeld,
    board::{Key, MAX_DEPTH, MAX_KEY_BYTES, MAX_VALUE_BYTES},
    common::v1::Position,
    ids::BoardName,
    reason::{Problem, Reason},
};
use serde_json::Value;

use self::item::Item;
pub(super) use self::{
    schema::{
        compares_schema, json_schema, key_schema, lock_schema, operations_schema, position_schema,
        prefix_schema, revision_schema,
    },
    transaction::{check_together, read_compares, read_operations},
};
use super::whole;

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
