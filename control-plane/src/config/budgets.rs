//! `[budgets]`: how long machines spend by themselves, and how long movements are kept.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Seconds of a lease: from what a network needs to an hour.
const LEASE: RangeInclusive<u32> = 2..=3600;

/// Days: up to ten years.
const HISTORY: RangeInclusive<u32> = 1..=3650;

/// How long machines spend by themselves, and how long movements are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Seconds that a machine which is cut off may go on spending what it has. Until then
    /// a frozen budget can still be spent from there, and a silent machine cannot be settled.
    pub lease_seconds: u32,
    /// Days after which single movements are forgotten; what they come to is not.
    pub history_days: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            lease_seconds: 30,
            history_days: 90,
        }
    }
}

impl Budgets {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if !LEASE.contains(&self.lease_seconds) {
            return Err(ConfigError::invalid(
                "budgets.lease_seconds",
                "expected 2 to 3600",
            ));
        }
        if !HISTORY.contains(&self.history_days) {
            return Err(ConfigError::invalid(
                "budgets.history_days",
                "expected 1 to 3650",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_its_range_is_refused_with_its_name() {
        Budgets::default().validate().unwrap();
        let short = Budgets {
            lease_seconds: 1,
            ..Budgets::default()
        };
        let refused = short.validate().unwrap_err().to_string();
        assert!(refused.contains("budgets.lease_seconds"), "{refused}");
        let long = Budgets {
            history_days: 3651,
            ..Budgets::default()
        };
        let refused = long.validate().unwrap_err().to_string();
        assert!(refused.contains("budgets.history_days"), "{refused}");
    }
}
