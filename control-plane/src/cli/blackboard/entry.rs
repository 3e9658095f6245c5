//! What is in a key, as it is shown.

use authguardian_proto::blackboard::v1::Entry;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::{
    failure::Failure,
    output::{Format, Row},
    value::{non_empty, or_dash, rfc3339, short_time},
};

/// Widest that a value is shown in a table.
const WIDTH: usize = 60;

/// JSON in JSON, to the digit; in anything else its text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Json {
    Raw(Box<RawValue>),
    Text(String),
}

impl Json {
    pub(super) fn of(text: String, output: Format) -> Result<Self, Failure> {
        if output != Format::Json {
            return Ok(Self::Text(text));
        }
        let raw = RawValue::from_string(text);
        raw.map(Self::Raw).map_err(|error| {
            Failure::internal(format!(
                "the control plane sent a value that is no JSON: {error}"
            ))
        })
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Raw(raw) => raw.get(),
            Self::Text(text) => text,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct EntryView {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Json>,
    revision: u64,
    created_revision: u64,
    is_lock: bool,
    writer: String,
    machine_id: Option<String>,
    grant_id: Option<String>,
    written_at: Option<String>,
    expires_at: Option<String>,
}

impl EntryView {
    pub(super) fn of(entry: Entry, output: Format) -> Result<Self, Failure> {
        Ok(Self {
            key: entry.key,
            value: non_empty(entry.value)
                .map(|text| Json::of(text, output))
                .transpose()?,
            revision: entry.revision,
            created_revision: entry.created_revision,
            is_lock: entry.is_lock,
            writer: entry.writer,
            machine_id: non_empty(entry.machine_id),
            grant_id: non_empty(entry.grant_id),
            written_at: rfc3339(entry.written_at.as_ref()),
            expires_at: rfc3339(entry.expires_at.as_ref()),
        })
    }

    /// The value, cut to what a table has room for.
    pub(super) fn short_value(&self) -> String {
        short(self.value.as_ref().map_or("", Json::text))
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn writer(&self) -> &str {
        &self.writer
    }
}

/// A value, cut to what a table has room for.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Row for EntryView {
    const PLURAL: &'static str = "keys";
    const COLUMNS: &'static [&'static str] =
        &["KEY", "VALUE", "REVISION", "WRITER", "WRITTEN", "EXPIRES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.key.clone(),
            or_dash(&self.short_value()),
            self.revision.to_string(),
            self.writer.clone(),
            short_time(self.written_at.as_deref()),
            short_time(self.expires_at.as_deref()),
        ]
    }
}
