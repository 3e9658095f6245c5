//! The lines of the journal.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::tail::write_line;

/// What the files of this kind call themselves.
pub(super) const FORMAT: u32 = 1;

/// One line, which counts when it is whole. Kinds of calls are written once a file, and
/// numbered from 1; seconds are since boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    /// The first line.
    Journal(Head),
    /// From here on, the wall clock was so many seconds ahead of the time since boot.
    Offset(i64),
    /// A kind of calls has this number.
    Call(u32, Kind),
    /// Of this kind, in this second, so many more.
    Add(u32, u64, u64),
}

/// Which batch a file is, and by which clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) format: u32,
    /// The journal's id.
    pub(super) id: Uuid,
    pub(super) sequence: u64,
    /// Which boot of the machine its seconds are of.
    pub(super) boot: String,
    /// See [`Record::Offset`].
    pub(super) offset: i64,
}

/// What makes calls equal, as the control plane is told; what is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Kind {
    pub(super) action: String,
    pub(super) outcome: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    /// Proved.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
    /// Only named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) claimed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) agent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) zone: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) client: String,
}

impl Record {
    /// Appends the line.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        write_line(self, buffer);
    }

    /// Reads a line.
    ///
    /// # Errors
    /// Where it is none.
    pub(super) fn read(line: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back() {
        for record in [
            Record::Journal(Head {
                format: FORMAT,
                id: Uuid::from_u128(7),
                sequence: u64::MAX,
                boot: "f3".into(),
                offset: -5,
            }),
            Record::Offset(1_764_500_000),
            Record::Call(1, Kind::default()),
            Record::Call(
                2,
                Kind {
                    action: "tool.\"a\nb".into(),
                    client: "::1".into(),
                    ..Kind::default()
                },
            ),
            Record::Add(1, 3600, u64::MAX),
        ] {
            let mut line = Vec::new();
            record.write(&mut line);
            assert_eq!(line.split_inclusive(|byte| *byte == b'\n').count(), 1);
            assert_eq!(Record::read(&line).unwrap(), record);
        }
        assert!(Record::read(br#"{"add":[1,2]}"#).is_err());
        assert!(Record::read(br#"{"add":[1,2,3],"offset":1}"#).is_err());
        assert!(Record::read(br#"{"call":[1,{"key_secret":"x"}]}"#).is_err());
    }
}
