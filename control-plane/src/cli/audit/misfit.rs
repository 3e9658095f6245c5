//! What does not fit in a file that is checked.

use std::fmt;

use serde::Serialize;

/// Something that does not fit; checking ends with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Misfit {
    /// The line of the file, from 1; `None`: it is in no single line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) line: Option<u64>,
    /// One sentence.
    pub(super) detail: String,
}

impl Misfit {
    /// In no single line.
    pub(super) fn new(detail: impl Into<String>) -> Self {
        Self {
            line: None,
            detail: detail.into(),
        }
    }

    /// In that line.
    pub(super) fn at(line: u64, detail: impl Into<String>) -> Self {
        Self {
            line: Some(line),
            detail: detail.into(),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.detail),
            None => write!(f, "{}", self.detail),
        }
    }
}
