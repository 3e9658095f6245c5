//! What is in a key, as it is told.

use authguardian_proto::{blackboard::v1::Entry, reason::Problem};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::core::{
    decision::{given, not_understood, rfc3339},
    exact::exact,
    json,
};

/// A key and what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EntryResult {
    /// The key.
    pub key: String,
    /// What is in it: any JSON, as it was written. Missing where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// The board's revision that wrote it last.
    pub revision: u64,
    /// The board's revision that made the key, after it was last not there; of a lock its fencing revision.
    pub created_revision: u64,
    /// Who wrote it: the id of an agent, or `admin:adm_…` for an operator.
    pub writer: String,
    /// Through which machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// Under which grant, where the board needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<String>,
    /// When, RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<String>,
    /// When it ends by itself, RFC 3339 in UTC; missing: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// True for a lock, which only `lock_acquire`, `lock_renew` and `lock_release` change.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_lock: bool,
}

impl EntryResult {
    /// Reads a message.
    pub(super) fn read(entry: Entry) -> Result<Self, Problem> {
        let value = match entry.value.as_str() {
            "" => None,
            text => Some(exact(text).map_err(|_| not_understood())?),
        };
        Ok(Self {
            value,
            key: entry.key,
            revision: entry.revision,
            created_revision: entry.created_revision,
            writer: writer(entry.writer),
            machine_id: given(entry.machine_id),
            grant_id: given(entry.grant_id),
            written_at: rfc3339(entry.written_at),
            expires_at: rfc3339(entry.expires_at),
            is_lock: entry.is_lock,
        })
    }

    /// As JSON, with the value as it was written.
    pub(super) fn tell(mut self) -> Value {
        tell_with(self.take_value(), self)
    }

    /// Takes the value out, so that it can be put back by [`tell_with`].
    pub(super) fn take_value(&mut self) -> Option<Value> {
        self.value.as_mut().map(Value::take)
    }
}

/// What has a `value`, as JSON with this one. `serde_json` would write its
/// numbers in its own way if it made JSON of the whole.
pub(super) fn tell_with(value: Option<Value>, rest: impl Serialize) -> Value {
    let mut told = json(rest);
    if let Some(value) = value {
        told["value"] = value;
    }
    told
}

/// Agents by their ids; operators keep their prefix.
pub(super) fn writer(text: String) -> String {
    match text.strip_prefix("agent:") {
        Some(agent) => agent.to_owned(),
        None => text,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_told_with_its_value_as_it_was_written_and_without_what_is_empty() {
        let entry = Entry {
            key: "a".into(),
            value: r#"{"b":1e400,"a":[1.10,-0]}"#.into(),
            revision: 7,
            created_revision: 5,
            writer: "agent:data_analyst".into(),
            ..Entry::default()
        };
        let told = EntryResult::read(entry.clone()).unwrap().tell();
        assert_eq!(
            told.to_string(),
            r#"{"key":"a","value":{"b":1e400,"a":[1.10,-0]},"revision":7,"created_revision":5,"writer":"data_analyst"}"#
        );
        let key_alone = Entry {
            value: String::new(),
            is_lock: true,
            writer: "admin:adm_1".into(),
            ..entry
        };
        let told = EntryResult::read(key_alone).unwrap().tell();
        assert_eq!(told.get("value"), None);
        assert_eq!(told["is_lock"], true);
        assert_eq!(told["writer"], "admin:adm_1");
    }

    #[test]
    fn null_is_a_value() {
        let entry = Entry {
            value: "null".into(),
            ..Entry::default()
        };
        let told = EntryResult::read(entry).unwrap().tell();
        assert_eq!(told.get("value"), Some(&Value::Null));
    }
}
