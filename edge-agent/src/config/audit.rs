//! `[audit]`: how this edge watches over the audit log.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Less often it would notice too late.
const MAX_SECONDS: u64 = 3600;

/// How this edge watches over the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// Seconds, give or take a fifth, between two looks at the log's newest
    /// checkpoint.
    pub witness_seconds: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            witness_seconds: 10,
        }
    }
}

impl Audit {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if (1..=MAX_SECONDS).contains(&self.witness_seconds) {
            return Ok(());
        }
        let problem = format!(
            "is {}, expected 1 to {MAX_SECONDS} seconds",
            self.witness_seconds
        );
        Err(ConfigError::value("audit.witness_seconds", problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_looks_at_times() {
        for (seconds, is_usable) in [(0, false), (1, true), (3600, true), (3601, false)] {
            let audit = Audit {
                witness_seconds: seconds,
            };
            let validated = audit.validate().map_err(|error| error.to_string());
            assert_eq!(validated.is_ok(), is_usable, "{seconds}");
            let problem = validated.err().unwrap_or_default();
            assert_eq!(
                problem.starts_with("`audit.witness_seconds` is "),
                !is_usable,
                "{problem}"
            );
        }
    }
}
