//! What a refusal tells of the outcome.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use authguardian_history::{Outcome, Refusal};

/// Why outcomes were not told, with how often, for whoever reads of a failure.
static UNKNOWN: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

pub(super) fn unknown(reason: String) -> Outcome {
    let mut unknown = UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *unknown.entry(reason).or_default() += 1;
    Outcome::Unknown
}

/// What [`unknown`] was told since the last time.
pub(super) fn take_unknown() -> BTreeMap<String, usize> {
    std::mem::take(&mut UNKNOWN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// By its reason; `more` is said of those that are not expected.
pub(super) fn outcome(reason: &str, more: impl FnOnce() -> String) -> Outcome {
    match reason {
        "KEY_NOT_FOUND" => Outcome::Refused(Refusal::NotFound),
        "REVISION_CONFLICT" => Outcome::Refused(Refusal::Conflict),
        // an edge or a control plane that has just started, or cannot ask now
        "UNAVAILABLE" | "OUTCOME_UNKNOWN" | "STALE" | "SESSION_EXPIRED" | "LEASE_EXPIRED" => {
            unknown(format!("{reason}: {}", more()))
        }
        reason => Outcome::Refused(Refusal::Other(format!("{reason}: {}", more()))),
    }
}
