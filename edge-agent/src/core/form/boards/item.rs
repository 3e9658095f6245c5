//! Objects within arguments, member by member.

use authguardian_proto::{
    board::{MAX_OPERATIONS, MAX_TTL_SECONDS},
    reason::{Problem, Reason},
};
use serde_json::{Map, Value};

use super::{check_key, read_revision, read_value};
use crate::core::form::{shortened, whole};

/// The items of a list, each with its place.
pub(super) fn items<'a>(
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
pub(super) struct Item<'a> {
    at: &'a str,
    pub(super) members: Map<String, Value>,
}

impl<'a> Item<'a> {
    pub(super) fn read(at: &'a str, value: &Value, known: &[&str]) -> Result<Self, Problem> {
        let Some(members) = value.as_object() else {
            return Err(Problem::invalid(at, "expected an object"));
        };
        if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let detail = format!("there is no such member; expected `{}`", known.join("`, `"));
            return Err(Problem::invalid(
                shortened(&format!("{at}.{unknown}")),
                detail,
            ));
        }
        let mut members = members.clone();
        members.retain(|name, value| name == "value" || !value.is_null());
        Ok(Self { at, members })
    }

    pub(super) fn key(&self) -> Result<String, Problem> {
        let name = format!("{}.key", self.at);
        let key = self.get("key")?.as_str();
        let key = key.ok_or_else(|| Problem::invalid(&name, "expected a string"))?;
        check_key(&name, key)?;
        Ok(key.to_owned())
    }

    pub(super) fn value(&self) -> Result<String, Problem> {
        read_value(&format!("{}.value", self.at), self.get("value")?)
    }

    pub(super) fn revision(&self, name: &str) -> Result<u64, Problem> {
        read_revision(&format!("{}.{name}", self.at), self.get(name)?)
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        let flag = self.get(name)?.as_bool();
        flag.ok_or_else(|| self.invalid(name, "expected true or false"))
    }

    pub(super) fn ttl(&self) -> Result<Option<u64>, Problem> {
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

    pub(super) fn get(&self, name: &str) -> Result<&Value, Problem> {
        let value = self.members.get(name);
        value.ok_or_else(|| self.invalid(name, "is required"))
    }

    pub(super) fn invalid(&self, name: &str, detail: impl Into<String>) -> Problem {
        Problem::invalid(format!("{}.{name}", self.at), detail)
    }
}
