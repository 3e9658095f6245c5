//! `[discovery.gossip]`: whether edges tell each other of their agents.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Whether edges tell each other, also of third ones, which agents they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gossip {
    /// Whether this one takes part; it has to be reached by others (`[peer]`).
    pub enabled: bool,
    /// Milliseconds between two rounds: in each, this edge shows that it is there, and
    /// talks with a few others.
    pub interval_ms: u32,
    /// Machines that are kept at most.
    pub max_machines: u32,
}

impl Default for Gossip {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_ms: 2000,
            max_machines: 512,
        }
    }
}

impl Gossip {
    /// Between two rounds.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms.into())
    }

    /// `is_reached`: other edges can call this one.
    pub(super) fn validate(&self, is_reached: bool) -> Result<(), ConfigError> {
        let bounded: [(&'static str, u32, RangeInclusive<u32>); 2] = [
            (
                "discovery.gossip.interval_ms",
                self.interval_ms,
                50..=60_000,
            ),
            ("discovery.gossip.max_machines", self.max_machines, 1..=4096),
        ];
        for (key, value, range) in bounded {
            if !range.contains(&value) {
                let problem = format!("is {value}, expected {} to {}", range.start(), range.end());
                return Err(ConfigError::value(key, problem));
            }
        }
        if self.enabled && !is_reached {
            return Err(ConfigError::value(
                "discovery.gossip.enabled",
                "is true, but `peer.listen` is empty: others could not answer",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_others_to_reach_this_edge_and_a_pace_that_can_be_meant() {
        let mut gossip = Gossip::default();
        assert!(gossip.validate(false).is_ok());
        gossip.enabled = true;
        assert!(gossip.validate(true).is_ok());
        let said =
            |gossip: &Gossip, is_reached| gossip.validate(is_reached).unwrap_err().to_string();
        assert!(said(&gossip, false).contains("peer.listen"));
        gossip.interval_ms = 10;
        assert!(said(&gossip, true).contains("discovery.gossip.interval_ms"));
    }
}
