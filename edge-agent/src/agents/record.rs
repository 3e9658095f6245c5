//! When a signed record has to be replaced.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// A record that tells no times is asked for again after this.
const LIFE: Duration = Duration::from_mins(10);

/// A signed record, as the registry gave it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) text: Arc<str>,
    /// Since boot: when another one is due.
    pub(super) due: Duration,
}

impl Kept {
    /// One that has just come: the next is due at half of its life.
    pub(super) fn new(text: String, now: Duration) -> Self {
        let due = now + life(&text).unwrap_or(LIFE) / 2;
        Self {
            text: text.into(),
            due,
        }
    }

    /// One from before a restart, whose age is not known.
    pub(super) fn due_now(text: String) -> Self {
        Self {
            text: text.into(),
            due: Duration::ZERO,
        }
    }
}

/// How long it says that it is good for. It came from the control plane itself:
/// whoever counts on what it says verifies it.
fn life(record: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Times {
        iat: i64,
        exp: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(record.split('.').nth(1)?).ok()?;
    let times: Times = serde_json::from_slice(&payload).ok()?;
    let seconds = times.exp.checked_sub(times.iat)?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}
