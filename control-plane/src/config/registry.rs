//! `[registry]`: how often edges have to be heard, and how many agents there
//! may be.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Seconds of what is counted in seconds: up to a day.
const DAY: RangeInclusive<u32> = 1..=86_400;

/// Seconds until what is gone is forgotten: up to 30 days.
const MONTH: RangeInclusive<u32> = 1..=2_592_000;

/// How long an agent may be silent: 5 seconds to a day, as agents may ask.
const AGENT_TTL: RangeInclusive<u32> = 5..=86_400;

/// How many registrations one holder may have.
const COUNT: RangeInclusive<u32> = 1..=1_000_000;

/// How often edges have to be heard, and how many agents there may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registry {
    /// Seconds between two heartbeats of an edge.
    pub heartbeat_seconds: u32,
    /// Seconds without a heartbeat after which an edge's agents are suspect …
    pub suspect_after_seconds: u32,
    /// … and gone: another machine or key may take their ids.
    pub gone_after_seconds: u32,
    /// Seconds without a sign of life after which an edge no longer vouches for
    /// an agent that has asked for nothing else.
    pub agent_ttl_seconds: u32,
    /// Seconds after which what is gone is forgotten.
    pub forget_after_seconds: u32,
    /// Seconds that a signed record of an agent says something to edges that
    /// cannot reach the control plane.
    pub record_seconds: u32,
    /// Most agents that one API key may have registered.
    pub max_agents_per_key: u32,
    /// Most agents that may be registered through one machine.
    pub max_agents_per_machine: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 5,
            suspect_after_seconds: 15,
            gone_after_seconds: 60,
            agent_ttl_seconds: 90,
            forget_after_seconds: 86_400,
            record_seconds: 3600,
            max_agents_per_key: 1000,
            max_agents_per_machine: 10_000,
        }
    }
}

impl Registry {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let rows = [
            (
                "registry.heartbeat_seconds",
                self.heartbeat_seconds,
                DAY,
                "expected 1 to 86400",
            ),
            (
                "registry.suspect_after_seconds",
                self.suspect_after_seconds,
                DAY,
                "expected 1 to 86400",
            ),
            (
                "registry.gone_after_seconds",
                self.gone_after_seconds,
                DAY,
                "expected 1 to 86400",
            ),
            (
                "registry.agent_ttl_seconds",
                self.agent_ttl_seconds,
                AGENT_TTL,
                "expected 5 to 86400",
            ),
            (
                "registry.forget_after_seconds",
                self.forget_after_seconds,
                MONTH,
                "expected 1 to 2592000",
            ),
            (
                "registry.record_seconds",
                self.record_seconds,
                DAY,
                "expected 1 to 86400",
            ),
            (
                "registry.max_agents_per_key",
                self.max_agents_per_key,
                COUNT,
                "expected 1 to 1000000",
            ),
            (
                "registry.max_agents_per_machine",
                self.max_agents_per_machine,
                COUNT,
                "expected 1 to 1000000",
            ),
        ];
        for (key, value, range, expected) in rows {
            if !range.contains(&value) {
                return Err(ConfigError::invalid(key, expected));
            }
        }
        if self.suspect_after_seconds <= self.heartbeat_seconds {
            let expected = "expected more than registry.heartbeat_seconds, else every edge is suspect between two heartbeats";
            return Err(ConfigError::invalid(
                "registry.suspect_after_seconds",
                expected,
            ));
        }
        if self.gone_after_seconds <= self.suspect_after_seconds {
            let expected = "expected more than registry.suspect_after_seconds";
            return Err(ConfigError::invalid(
                "registry.gone_after_seconds",
                expected,
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(spoil: impl FnOnce(&mut Registry)) -> String {
        let mut registry = Registry::default();
        spoil(&mut registry);
        registry.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_fit() {
        Registry::default().validate().unwrap();
    }

    #[test]
    fn times_that_do_not_follow_each_other_are_refused() {
        let said = refused(|registry| registry.suspect_after_seconds = 5);
        assert!(said.contains("registry.suspect_after_seconds"), "{said}");
        let said = refused(|registry| registry.gone_after_seconds = 15);
        assert!(said.contains("registry.gone_after_seconds"), "{said}");
        let said = refused(|registry| registry.agent_ttl_seconds = 4);
        assert!(said.contains("registry.agent_ttl_seconds"), "{said}");
        let said = refused(|registry| registry.max_agents_per_key = 0);
        assert!(said.contains("registry.max_agents_per_key"), "{said}");
    }
}
