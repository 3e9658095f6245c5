//! `[limits]`: how many connections each listener takes.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How many connections may be open.
const COUNT: RangeInclusive<u32> = 1..=1_000_000;

/// How many connections each listener with TLS takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections of each listener; more are closed at once.
    pub max_connections: u32,
    /// Open connections of one address (IPv6: of one /64); loopback has no such
    /// bound.
    pub max_connections_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_address: 256,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, value) in [
            ("limits.max_connections", self.max_connections),
            (
                "limits.max_connections_per_address",
                self.max_connections_per_address,
            ),
        ] {
            if !COUNT.contains(&value) {
                return Err(ConfigError::invalid(key, "expected 1 to 1000000"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_at_all_is_refused() {
        let nobody = Limits {
            max_connections_per_address: 0,
            ..Limits::default()
        };
        let error = nobody.validate().unwrap_err().to_string();
        assert_eq!(
            error,
            "`limits.max_connections_per_address`: expected 1 to 1000000"
        );
    }
}
