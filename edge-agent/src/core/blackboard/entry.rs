//! What is in a key, as it is told.

use std::collections::BTreeMap;

use authguardian_proto::{
    blackboard::v1::Entry,
    crdt::{Dot, VectorClock, Version, Write},
    reason::Problem,
};
use prost_types::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    core::{
        decision::{given, not_understood, rfc3339},
        told::AsWritten,
    },
    replica::{Content, Found},
};

/// A key and what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct EntryResult {
    /// The key.
    pub key: String,
    /// What is in it: any JSON, as it was written. Missing where it was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub value: Option<AsWritten>,
    /// The revision that wrote it last: the board's, or where the board is eventual, this replica's.
    pub revision: u64,
    /// The board's revision that made the key, after it was last not there; of a lock its fencing revision. Missing
    /// where the board is eventual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_revision: Option<u64>,
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
    /// Where the board is eventual: by actor (a machine and its incarnation), how many of its writes this key has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, u64>>")]
    pub vector_clock: Option<VectorClock>,
    /// Where the board is eventual: how many values there are that have not seen each other. Readers are told the same
    /// one everywhere; the next write replaces all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub siblings: Option<usize>,
    /// All of them, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<SiblingResult>>,
}

/// One of several values of a key that have not seen each other.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SiblingResult {
    /// Any JSON, as it was written.
    #[schemars(with = "Value")]
    pub value: AsWritten,
    /// Who wrote it.
    pub writer: String,
    /// Through which machine; missing: at the control plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// When, RFC 3339 in UTC, by the writer's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<String>,
    /// Which write it is, as an actor and its how-manyth.
    pub version: String,
    /// What it had seen, as `vector_clock` of the entry.
    #[schemars(with = "BTreeMap<String, u64>")]
    pub vector_clock: VectorClock,
}

impl SiblingResult {
    /// Of a version; `None` of a deletion.
    pub(super) fn of(version: Version<Write>) -> Option<Result<Self, Problem>> {
        let value = version.content.value.as_deref().map(AsWritten::read)?;
        Some(value.map_err(|_| not_understood()).map(|value| Self {
            value,
            writer: writer(version.content.writer.to_string()),
            machine_id: machine(version.dot),
            written_at: moment(version.time.millis()),
            version: version.dot.to_string(),
            vector_clock: version.clock,
        }))
    }
}

/// The machine that wrote; `None`: the control plane itself.
pub(super) fn machine(dot: Dot) -> Option<String> {
    let machine = dot.actor.machine;
    (!machine.as_uuid().is_nil()).then(|| machine.to_string())
}

/// Milliseconds since 1970 as RFC 3339.
pub(super) fn moment(millis: u64) -> Option<String> {
    rfc3339(timestamp(millis))
}

/// Milliseconds since 1970 as a message.
pub(super) fn timestamp(millis: u64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: i64::try_from(millis / 1000).ok()?,
        nanos: i32::try_from(millis % 1000 * 1_000_000).ok()?,
    })
}

impl EntryResult {
    /// Reads a message.
    pub(super) fn read(entry: Entry) -> Result<Self, Problem> {
        let value = match entry.value.as_str() {
            "" => None,
            text => Some(AsWritten::read(text).map_err(|_| not_understood())?),
        };
        Ok(Self {
            value,
            key: entry.key,
            revision: entry.revision,
            created_revision: Some(entry.created_revision).filter(|revision| *revision > 0),
            writer: writer(entry.writer),
            machine_id: given(entry.machine_id),
            grant_id: given(entry.grant_id),
            written_at: rfc3339(entry.written_at),
            expires_at: rfc3339(entry.expires_at),
            is_lock: entry.is_lock,
            vector_clock: None,
            siblings: None,
            values: None,
        })
    }

    /// What the replica has of a key.
    pub(super) fn of_replica(key: &str, found: Found) -> Result<Self, Problem> {
        let value = match found.content {
            Content::Session(entry) => return Self::read(entry),
            Content::Eventual(value) => value,
        };
        Ok(Self {
            key: key.to_owned(),
            value: match &*value.value {
                "" => None,
                text => Some(AsWritten::read(text).map_err(|_| not_understood())?),
            },
            revision: found.revision,
            created_revision: None,
            writer: writer(value.writer.to_string()),
            machine_id: machine(value.dot),
            grant_id: None,
            written_at: moment(value.time.millis()),
            expires_at: value.expires_at_millis.and_then(moment),
            is_lock: false,
            vector_clock: Some(value.clock),
            siblings: Some(value.siblings),
            values: None,
        })
    }
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
    use crate::core::told::Told;

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
        let told = |entry| Told::of(EntryResult::read(entry).unwrap());
        assert_eq!(
            told(entry.clone()).into_text(),
            r#"{"key":"a","value":{"b":1e400,"a":[1.10,-0]},"revision":7,"created_revision":5,"writer":"data_analyst"}"#
        );
        let key_alone = Entry {
            value: String::new(),
            is_lock: true,
            writer: "admin:adm_1".into(),
            ..entry
        };
        let told = told(key_alone).value();
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
        let told = Told::of(EntryResult::read(entry).unwrap()).value();
        assert_eq!(told.get("value"), Some(&Value::Null));
    }
}
