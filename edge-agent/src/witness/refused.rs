//! What is refused, as it is written.

use authguardian_proto::audit::v1::WitnessCheckpointResponse;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Refusal;

/// What is refused, from when on, and the first checkpoint that was: where it
/// is signed, it and what is kept show together that two things were said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// Of which kind.
    pub(super) kind: String,
    /// One sentence.
    pub(super) detail: String,
    /// By this machine's wall clock.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) since: OffsetDateTime,
    /// What is kept meanwhile, if anything is: a signed note.
    kept: Option<String>,
    /// What was told: a signed note; empty when there was none.
    checkpoint: String,
    /// The verifier keys that were told with it.
    verifier_keys: Vec<String>,
}

impl Refused {
    pub(super) fn new(
        refusal: &Refusal,
        since: OffsetDateTime,
        kept: Option<String>,
        told: &WitnessCheckpointResponse,
    ) -> Self {
        Self {
            kind: refusal.kind().to_owned(),
            detail: refusal.to_string(),
            since,
            kept,
            checkpoint: told.checkpoint.clone(),
            verifier_keys: told.verifier_keys.clone(),
        }
    }

    /// Whether the same checkpoint was kept as another one was refused.
    pub(super) fn is_by_what_was_kept_for(&self, other: &Self) -> bool {
        self.kept == other.kept
    }

    /// Whether it is nothing new after another one: the same kind of thing, by
    /// the same checkpoint.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        (&self.kind, &self.kept) == (&before.kind, &before.kept)
    }
}
