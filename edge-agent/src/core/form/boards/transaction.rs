//! The lists of a transaction.

use std::collections::HashSet;

use authguardian_proto::{
    blackboard::v1::{
        Compare, Erase, Fetch, Operation, Write, compare::Condition, operation::Action,
    },
    board::MAX_TRANSACTION_BYTES,
    reason::{Problem, Reason},
};
use serde_json::Value;

use super::item::{Item, items};

pub(in crate::core::form) fn read_compares(
    name: &str,
    value: &Value,
) -> Result<Vec<Compare>, Problem> {
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

pub(in crate::core::form) fn read_operations(
    name: &str,
    value: &Value,
) -> Result<Vec<Operation>, Problem> {
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
pub(in crate::core::form) fn check_together(
    compare: &[Compare],
    lists: [&[Operation]; 2],
) -> Result<(), Problem> {
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
