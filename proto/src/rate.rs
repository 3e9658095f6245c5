//! How often an API key may be used: limits as they are written, and the
//! leased shares that edges keep them by.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::ids::ApiKeyId;

/// The names of all tools of an edge, which limits can be set for.
pub const TOOLS: [&str; 20] = [
    "request_permission",
    "permission_status",
    "renew_permission",
    "validate_token",
    "revoke_token",
    "register_agent",
    "deregister_agent",
    "heartbeat",
    "discover_agents",
    "blackboard_read",
    "blackboard_write",
    "blackboard_delete",
    "blackboard_list",
    "blackboard_transaction",
    "lock_acquire",
    "lock_renew",
    "lock_release",
    "request_allocation",
    "report_spending",
    "budget_status",
];

/// Most calls per second, and most at once, that a limit can be set to.
pub const MAX: u32 = 1_000_000;

/// A bucket of `burst` calls that fills at `per_second`. Written
/// `per_second/burst`, such as `100/200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// Calls per second over a longer time, 1 to [`MAX`].
    pub per_second: u32,
    /// Calls at once after a rest, 1 to [`MAX`].
    pub burst: u32,
}

/// A limit that is none, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not two numbers.
    #[error("expected `PER_SECOND/BURST`, such as `100/200`, or `PER_SECOND` alone")]
    Form,
    /// A number that is out of bounds.
    #[error("calls per second and burst have to be 1 to {MAX}")]
    Bounds,
}

impl RateLimit {
    /// What keys get that are made without another word.
    pub const DEFAULT: Self = Self {
        per_second: 100,
        burst: 200,
    };

    /// A limit within the bounds.
    ///
    /// # Errors
    /// [`RateError::Bounds`].
    pub fn new(per_second: u32, burst: u32) -> Result<Self, RateError> {
        let bounds = 1..=MAX;
        if bounds.contains(&per_second) && bounds.contains(&burst) {
            Ok(Self { per_second, burst })
        } else {
            Err(RateError::Bounds)
        }
    }
}

impl FromStr for RateLimit {
    type Err = RateError;

    /// Without a burst, it is twice the calls of a second.
    fn from_str(text: &str) -> Result<Self, RateError> {
        let number = |text: &str| -> Result<u32, RateError> {
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if !is_number {
                return Err(RateError::Form);
            }
            text.parse().map_err(|_| RateError::Bounds)
        };
        if let Some((per_second, burst)) = text.split_once('/') {
            return Self::new(number(per_second)?, number(burst)?);
        }
        let per_second = number(text)?;
        Self::new(per_second, per_second.saturating_mul(2).min(MAX))
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.per_second, self.burst)
    }
}

/// The limits of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimits {
    /// Of all calls; `None`: no limit.
    pub all: Option<RateLimit>,
    /// Of calls of single tools, by name.
    pub tools: BTreeMap<String, RateLimit>,
}

impl RateLimits {
    /// Whether there is nothing to keep.
    pub fn are_none(&self) -> bool {
        self.all.is_none() && self.tools.is_empty()
    }

    /// The limit of a tool, or of all calls, which an empty name stands for.
    pub fn of(&self, tool: &str) -> Option<RateLimit> {
        if tool.is_empty() {
            self.all
        } else {
            self.tools.get(tool).copied()
        }
    }
}

/// One limit of one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitId {
    /// Which key.
    pub api_key_id: ApiKeyId,
    /// Which tool; empty: all calls.
    pub tool: String,
}

/// How a limit is used at one machine, as it tells when it asks for its share.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Use {
    /// Calls per second that were tried lately, refused ones included.
    pub wanted: f64,
    /// The share that is in use from now on, calls per second; 0: none.
    pub held: f64,
    /// Calls that are left in the bucket.
    pub tokens: f64,
    /// The share is given back with what is left.
    pub release: bool,
}

/// What a machine may let through of a limit, without asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// Calls per second.
    pub per_second: f64,
    /// Size of its bucket, calls.
    pub burst: u32,
    /// Calls to put into it now, above those that are left.
    pub tokens: f64,
    /// How long it may be used, counted from before it was asked for.
    pub lease: Duration,
    /// When to ask again.
    pub again: Duration,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_reads_as_it_is_written() {
        let limit = |per_second, burst| Ok(RateLimit { per_second, burst });
        assert_eq!("100/200".parse(), limit(100, 200));
        assert_eq!("50".parse(), limit(50, 100));
        assert_eq!("1000000".parse(), limit(1_000_000, 1_000_000));
        assert_eq!(RateLimit::DEFAULT.to_string(), "100/200");
        for text in ["", "/", "1/", "/1", "a", "-1", "+1", "1/2/3", "1 /2", "1.5"] {
            assert_eq!(text.parse::<RateLimit>(), Err(RateError::Form), "{text}");
        }
        for text in ["0", "0/1", "1/0", "1000001", "1/1000001", "99999999999"] {
            assert_eq!(text.parse::<RateLimit>(), Err(RateError::Bounds), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_limit_reads_back(per_second in 1..=MAX, burst in 1..=MAX) {
            let limit = RateLimit::new(per_second, burst).unwrap();
            prop_assert_eq!(limit.to_string().parse(), Ok(limit));
        }

        #[test]
        fn rubbish_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<RateLimit>();
        }
    }
}
