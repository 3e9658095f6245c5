//! The lines of an export: one that names the log, one for each entry, and the
//! checkpoint. Those of entries have one form only, so that what is hashed
//! stands there byte for byte.

use authguardian_proto::{
    audit_leaf::AuditLeaf,
    merkle::{Hash, hash_of},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Most bytes of a line; entries are far shorter.
pub(super) const LONGEST: usize = 1024 * 1024;

/// What the first line says of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) origin: String,
    pub(super) epoch: u64,
    pub(super) begun_at: String,
    pub(super) verifier_keys: Vec<String>,
}

/// A line after the first.
#[derive(Debug)]
pub(super) enum Line {
    /// One leaf.
    Leaf {
        /// Where it stands.
        index: u64,
        /// What it is.
        leaf: Leaf,
    },
    /// The end: a signed note.
    Checkpoint(String),
}

/// What is told of an entry.
#[derive(Debug)]
pub(super) enum Leaf {
    /// The bytes that are hashed.
    Entry(String),
    /// Retention has dropped the body.
    Dropped(Hash),
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    log: Header,
}

#[derive(Serialize, Deserialize)]
struct CheckpointLine {
    checkpoint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyLine<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    entry: Option<&'a RawValue>,
    leaf_hash: Option<String>,
    checkpoint: Option<String>,
}

impl Header {
    /// Reads the first line.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let line: Result<HeaderLine, _> = serde_json::from_str(text);
        line.map(|line| line.log)
            .map_err(|error| format!("expected {{\"log\": …}}: {error}"))
    }

    /// The first line, without its end.
    pub(super) fn text(&self) -> String {
        written(&HeaderLine { log: self.clone() })
    }
}

impl Line {
    /// Reads a line after the first.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        const FORM: &str = "not in the form in which `audit export` writes it";
        let line: AnyLine<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let read = match line {
            AnyLine {
                index: None,
                entry: None,
                leaf_hash: None,
                checkpoint: Some(note),
            } => return Ok(Self::Checkpoint(note)),
            AnyLine {
                index: Some(index),
                entry: Some(entry),
                leaf_hash: None,
                checkpoint: None,
            } => Self::Leaf {
                index,
                leaf: Leaf::entry(entry.get())?,
            },
            AnyLine {
                index: Some(index),
                entry: None,
                leaf_hash: Some(hash),
                checkpoint: None,
            } => Self::Leaf {
                index,
                leaf: Leaf::Dropped(hash_in(&hash).ok_or(FORM)?),
            },
            _ => return Err(FORM.to_owned()),
        };
        if read.text() == text {
            Ok(read)
        } else {
            Err(FORM.to_owned())
        }
    }

    /// The line, without its end.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Leaf { index, leaf } => match leaf {
                Leaf::Entry(entry) => format!("{{\"index\":{index},\"entry\":{entry}}}"),
                Leaf::Dropped(hash) => format!("{{\"index\":{index},\"leaf_hash\":\"{hash}\"}}"),
            },
            Self::Checkpoint(note) => written(&CheckpointLine {
                checkpoint: note.clone(),
            }),
        }
    }
}

impl Leaf {
    /// Takes what is canonical only: what is hashed has to be what is read.
    pub(super) fn entry(text: &str) -> Result<Self, String> {
        match AuditLeaf::from_bytes(text.as_bytes()) {
            Some(_) => Ok(Self::Entry(text.to_owned())),
            None => Err("the entry is not one in canonical JSON (RFC 8785)".to_owned()),
        }
    }
}

/// Reads a hash that stands in a file, in base64.
pub(super) fn hash_in(text: &str) -> Option<Hash> {
    hash_of(&BASE64_STANDARD.decode(text).ok()?)
}

fn written(line: &impl Serialize) -> String {
    // texts and numbers can always be written
    serde_json::to_string(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"action":"a","caller":"system","count":1,"occurred_at":"2026-01-31T08:00:00.000000Z","outcome":"ok","sequence":7,"subject":"é\"\\"}"#;

    #[test]
    fn a_line_reads_back_byte_for_byte() {
        let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        for text in [
            format!(r#"{{"index":0,"entry":{ENTRY}}}"#),
            format!(r#"{{"index":9007199254740993,"leaf_hash":"{hash}"}}"#),
            r#"{"checkpoint":"o\n1\nx\n\n— o y\n"}"#.to_owned(),
        ] {
            assert_eq!(Line::read(&text).unwrap().text(), text);
        }
        let header = r#"{"log":{"origin":"o","epoch":1,"begun_at":"t","verifier_keys":["k"]}}"#;
        assert_eq!(Header::read(header).unwrap().text(), header);
    }

    #[test]
    fn there_is_no_other_way_to_write_an_entry() {
        let good = format!(r#"{{"index":7,"entry":{ENTRY}}}"#);
        let spaced = good.replacen(':', ": ", 1);
        let swapped = format!(r#"{{"entry":{ENTRY},"index":7}}"#);
        let escaped = good.replace('é', "\\u00e9");
        let twice = good.replacen('{', r#"{"index":7,"#, 1);
        let both = good.replacen(
            '{',
            r#"{"leaf_hash":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","#,
            1,
        );
        let none = r#"{"index":7}"#.to_owned();
        let more = good.replacen('{', r#"{"more":1,"#, 1);
        for text in [spaced, swapped, escaped, twice, both, none, more] {
            assert!(Line::read(&text).is_err(), "{text}");
        }
        for text in ["", "null", "[]", "{}", r#"{"log":{}}"#, "\0"] {
            assert!(Line::read(text).is_err() && Header::read(text).is_err());
        }
    }
}
