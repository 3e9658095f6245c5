//! What is hashed of an audit entry: canonical JSON (RFC 8785), so that who
//! has read an entry can write the same bytes again.
//!
//! Members stand in the order of their names, without whitespace; what an
//! entry does not have is left out. All of them are text or whole numbers
//! below 2^53, of which canonical JSON and every other writer make the same.

use serde::{Deserialize, Serialize};

use crate::merkle::{Hash, leaf_hash};

/// An entry as a leaf. The fields are those of `Entry` in
/// `audit/v1/audit.proto`, without its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the fields are told of in audit/v1/audit.proto"
)]
pub struct AuditLeaf {
    // in the order of their names
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    pub caller: String,
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// RFC 3339, UTC, six digits of the second: `2026-01-31T08:00:00.123456Z`.
    pub occurred_at: String,
    pub outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub sequence: u64,
    pub subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl AuditLeaf {
    /// The bytes that are hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // text and whole numbers can always be written
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the bytes; `None` when they are not those that
    /// [`AuditLeaf::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let leaf: Self = serde_json::from_slice(bytes).ok()?;
        (leaf.to_bytes() == bytes).then_some(leaf)
    }

    /// Its hash as a leaf (RFC 6962, 2.1).
    pub fn hash(&self) -> Hash {
        leaf_hash(&self.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf() -> AuditLeaf {
        AuditLeaf {
            action: "grant.request".into(),
            agent_id: Some("data_analyst".into()),
            caller: "agent:data_analyst".into(),
            count: 1,
            key_id: None,
            machine_id: None,
            occurred_at: "2026-01-31T08:00:00.000000Z".into(),
            outcome: "denied".into(),
            peer_address: None,
            reason: Some("SCORE_TOO_LOW".into()),
            request_id: None,
            sequence: 7,
            subject: "a\"b\\c\u{1}\u{1f}\u{7f}\t/é\u{2028}".into(),
            trace_id: None,
            zone: None,
        }
    }

    #[test]
    fn an_entry_is_written_in_the_one_way_that_canonical_json_has() {
        let text = r#"{"action":"grant.request","agent_id":"data_analyst","caller":"agent:data_analyst","count":1,"occurred_at":"2026-01-31T08:00:00.000000Z","outcome":"denied","reason":"SCORE_TOO_LOW","sequence":7,"subject":"a\"b\\c\u0001\u001f"#;
        let text = format!("{text}\u{7f}\\t/é\u{2028}\"}}");
        assert_eq!(String::from_utf8(leaf().to_bytes()).unwrap(), text);
        assert_eq!(AuditLeaf::from_bytes(text.as_bytes()), Some(leaf()));
    }

    #[test]
    fn members_stand_in_the_order_of_their_names() {
        let all = AuditLeaf {
            key_id: Some(String::new()),
            machine_id: Some(String::new()),
            peer_address: Some(String::new()),
            request_id: Some(String::new()),
            trace_id: Some(String::new()),
            zone: Some(String::new()),
            ..leaf()
        };
        let value: serde_json::Value = serde_json::from_slice(&all.to_bytes()).unwrap();
        let names: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert!(names.is_sorted(), "{names:?}");
        assert_eq!(names.len(), 15);
    }

    #[test]
    fn other_writings_of_the_same_entry_are_no_leaf() {
        let text = String::from_utf8(leaf().to_bytes()).unwrap();
        for other in [
            text.replacen(':', ": ", 1),
            text.replace("\\u001f", "\\u001F"),
            text.replace("\"count\":1", "\"count\":1.0"),
            text.replacen('{', "{\"zone\":null,", 1),
            text.replacen('{', "{\"more\":1,", 1),
            text.replace("\"count\":1,", ""),
        ] {
            assert_eq!(AuditLeaf::from_bytes(other.as_bytes()), None, "{other}");
        }
    }
}
