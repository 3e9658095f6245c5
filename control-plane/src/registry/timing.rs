//! How often somebody has to be heard, and how much there may be.

use std::time::Duration;

use crate::config;

/// What the registry is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of an edge.
    pub heartbeat: Duration,
    /// After so long without one its agents are suspect …
    pub suspect_after: Duration,
    /// … and after so long gone.
    pub gone_after: Duration,
    /// After so long without a sign of life an edge no longer vouches for an
    /// agent that has not said anything else.
    pub agent_ttl: Duration,
    /// Those gone for so long are forgotten.
    pub forget_after: Duration,
    /// How long a signed record says something.
    pub record: Duration,
    /// Most registrations of one key.
    pub max_agents_per_key: u32,
    /// Most registrations of one machine.
    pub max_agents_per_machine: u32,
}

impl From<&config::Registry> for Timing {
    fn from(config: &config::Registry) -> Self {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Self {
            heartbeat: seconds(config.heartbeat_seconds),
            suspect_after: seconds(config.suspect_after_seconds),
            gone_after: seconds(config.gone_after_seconds),
            agent_ttl: seconds(config.agent_ttl_seconds),
            forget_after: seconds(config.forget_after_seconds),
            record: seconds(config.record_seconds),
            max_agents_per_key: config.max_agents_per_key,
            max_agents_per_machine: config.max_agents_per_machine,
        }
    }
}

impl Timing {
    /// How often to look for edges that were not heard.
    pub fn sweep(&self) -> Duration {
        (self.suspect_after / 10).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }

    /// So long may pass between two looks; after more, nothing is known of who
    /// was silent meanwhile.
    pub(super) fn blink(&self) -> Duration {
        (self.suspect_after / 3).max(self.sweep() * 3)
    }
}
