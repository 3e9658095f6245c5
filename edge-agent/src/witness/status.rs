//! How a witness stands, for `/readyz`.

use schemars::JsonSchema;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::State;

/// What is kept of the audit log, and what is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Status {
    /// The log whose newest checkpoint is kept; missing: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Entries that the kept checkpoint is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was taken, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept_at: Option<String>,
    /// What the log is told to be cannot be: `malformed`, `signature`, `cut`,
    /// `fork`, `other_log`, `ended_log`, `disowned`; missing: it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why not, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// From when on, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<String>,
}

impl State {
    /// How it stands; `None`: nothing is kept, and nothing refused.
    pub(super) fn status(&self) -> Option<Status> {
        let (kept, refused) = (self.kept.as_ref(), self.refused.as_ref());
        if kept.is_none() && refused.is_none() {
            return None;
        }
        Some(Status {
            origin: kept.map(|kept| kept.checkpoint.origin.clone()),
            size: kept.map(|kept| kept.checkpoint.size),
            kept_at: kept.map(super::Kept::kept_at_text),
            refused: refused.map(|refused| refused.kind.clone()),
            detail: refused.map(|refused| refused.detail.clone()),
            refused_since: refused.and_then(|refused| refused.since.format(&Rfc3339).ok()),
        })
    }
}
