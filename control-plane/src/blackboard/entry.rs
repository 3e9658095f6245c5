//! What is in a key, and what becomes of it.

use std::{fmt, sync::Arc};

use authguardian_proto::{
    board::{self, Key, MAX_VALUE_BYTES},
    ids::{GrantId, MachineId},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::error::{Error, Result};

/// JSON text of a value, as it was written: to the digit and in the same order.
/// Cloning it is cheap.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Value(Arc<str>);

impl Value {
    /// Checks a text.
    ///
    /// # Errors
    /// `TOO_LARGE`, or `INVALID_ARGUMENT` where it is no JSON, naming the field.
    pub fn parse(field: &str, text: &str) -> Result<Self> {
        if text.len() > MAX_VALUE_BYTES {
            let detail = format!("expected at most {MAX_VALUE_BYTES} bytes of JSON");
            return Err(Problem::new(Reason::TooLarge, detail).at(field).into());
        }
        if !board::is_shallow(text) {
            let detail = format!(
                "expected arrays and objects in each other at most {} deep",
                board::MAX_DEPTH
            );
            return Err(Error::invalid(field, detail));
        }
        if serde_json::from_str::<serde_json::Value>(text).is_err() {
            return Err(Error::invalid(field, "expected a JSON text"));
        }
        Ok(Self(text.trim().into()))
    }

    /// Takes what was checked before it was stored.
    pub(super) fn stored(text: String) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it says the same, whatever the order of members and the space
    /// between them; numbers by their digits.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        let read = |value: &Self| serde_json::from_str::<serde_json::Value>(value.as_str()).ok();
        self == other || read(self).is_some_and(|value| Some(value) == read(other))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// A key and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// `None`: not asked for.
    pub value: Option<Value>,
    /// The board's revision that wrote it last.
    pub revision: i64,
    /// The one that made the key; of a lock: its fencing revision.
    pub created_revision: i64,
    /// Whether it is a lock.
    pub is_lock: bool,
    /// Who wrote it: `agent:<id>` or `admin:adm_…`.
    pub writer: String,
    /// Through which machine.
    pub machine_id: Option<MachineId>,
    /// Under which grant.
    pub grant_id: Option<GrantId>,
    /// When, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub written_at: OffsetDateTime,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// How a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// Written.
    Put,
    /// Deleted.
    Delete,
    /// Ended by itself.
    Expire,
}

impl ChangeKind {
    /// As stored: 0, 1 or 2.
    pub(super) const fn number(self) -> i16 {
        match self {
            Self::Put => 0,
            Self::Delete => 1,
            Self::Expire => 2,
        }
    }

    /// Reads the stored form.
    pub(super) fn from_number(number: i16) -> Option<Self> {
        [Self::Put, Self::Delete, Self::Expire]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// What was written; of what is gone, only the key, the revision that ended
    /// it and who did.
    pub entry: Entry,
    /// The key's revision before; 0: it was not there.
    pub previous_revision: i64,
    /// What was there before; `None`: nothing, or it is no longer kept, or nobody
    /// asked.
    pub previous: Option<Box<Entry>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_json_of_bounded_size_and_depth() {
        for good in ["null", " {\"a\": [1, 2.50, \"\\u0000\"]} ", "\"🦀\""] {
            assert_eq!(Value::parse("value", good).unwrap().as_str(), good.trim());
        }
        let too_large = format!("\"{}\"", "x".repeat(MAX_VALUE_BYTES - 1));
        let too_deep = format!("{}{}", "[".repeat(121), "]".repeat(121));
        for (bad, reason) in [
            ("", Reason::InvalidArgument),
            ("{a: 1}", Reason::InvalidArgument),
            ("1 2", Reason::InvalidArgument),
            (&*too_deep, Reason::InvalidArgument),
            (&*too_large, Reason::TooLarge),
        ] {
            let refused = Value::parse("then[2].value", bad).unwrap_err();
            assert_eq!(refused.reason(), reason);
            assert_eq!(refused.problem().field.as_deref(), Some("then[2].value"));
        }
    }

    #[test]
    fn values_are_compared_by_what_they_say() {
        let same = |a: &str, b: &str| {
            let [a, b] = [a, b].map(|text| Value::parse("value", text).unwrap());
            a.says_the_same(&b)
        };
        assert!(same("{\"a\":1,\"b\":[2]}", "{ \"b\": [2], \"a\": 1 }"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("1", "\"1\""));
    }
}
