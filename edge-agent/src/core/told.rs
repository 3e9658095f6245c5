//! What is answered: JSON text, which is written once.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::exact::exact;

/// What a tool or a resource answers: the text of a JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(String);

impl Told {
    /// Writes a result.
    pub(super) fn of(result: impl Serialize) -> Self {
        // results are structs of strings, numbers and JSON, which always become JSON
        Self(serde_json::to_string(&result).unwrap_or_default())
    }

    /// As text, of one line.
    pub fn into_text(self) -> String {
        self.0
    }

    /// As a value, with its numbers as they are in the text.
    pub fn value(&self) -> Value {
        exact(&self.0).unwrap_or_default()
    }
}

/// JSON as it was written, in one line.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct AsWritten(Box<RawValue>);

impl AsWritten {
    /// Reads JSON text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, serde_json::Error> {
        let raw = if text.contains(['\n', '\r']) {
            // in JSON they are never within strings: they only part lines
            exact(text)?.to_string()
        } else {
            text.to_owned()
        };
        RawValue::from_string(raw).map(Self)
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for AsWritten {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for AsWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn json_is_told_as_it_was_written_in_one_line() {
        for (text, told) in [
            (
                "{\"b\": 1e400, \"a\": [1.10,-0]}",
                "{\"b\": 1e400, \"a\": [1.10,-0]}",
            ),
            (
                "{\n  \"b\": 1E400,\r\n \"a\": \"\\n\"\n}",
                "{\"b\":1E400,\"a\":\"\\n\"}",
            ),
        ] {
            let value = AsWritten::read(text).unwrap();
            let told_of = Told::of(BTreeMap::from([("value", value)]));
            assert_eq!(told_of.clone().into_text(), format!("{{\"value\":{told}}}"));
            assert_eq!(told_of.value()["value"], exact(text).unwrap());
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "{\n", "1 2", "\u{1}"] {
            assert!(AsWritten::read(text).is_err(), "{text:?}");
        }
    }
}
