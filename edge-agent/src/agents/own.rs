//! One agent of this edge.

use std::{collections::BTreeMap, time::Duration};

use authguardian_proto::{
    capability::Capability,
    endpoint::Endpoint,
    ids::{AgentId, ApiKeyId, MachineId},
    liveness::Liveness,
    zone::Zone,
};
use serde::{Deserialize, Serialize};

use super::Status;

/// How much longer than until it is suspect an agent is silent until it is gone,
/// as a multiple of its ttl.
const GONE_AFTER_TTLS: u32 = 4;

/// What the registry says of an agent of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Which.
    pub agent_id: AgentId,
    /// Which registration of it.
    pub epoch: u64,
    /// This machine.
    pub machine_id: MachineId,
    /// The key that registered it.
    pub api_key_id: ApiKeyId,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Its MCP server.
    pub endpoint: Option<Endpoint>,
    /// For choosing among agents.
    pub labels: BTreeMap<String, String>,
    /// 0 to 1000.
    pub trust_level: u32,
    /// Where it was registered from.
    pub zone: Zone,
    /// Seconds without a sign of life until this edge no longer vouches for it.
    pub ttl_seconds: u32,
    /// Seconds since 1970.
    pub registered_at: i64,
    /// For other edges; empty: there is none yet.
    pub signed_record: String,
    /// When that was made and when it ends, seconds since 1970.
    pub record_times: (i64, i64),
}

/// An agent of this edge.
#[derive(Debug, Clone)]
pub struct Own {
    /// What the registry says of it.
    pub registered: Registered,
    /// When it was last heard, since boot.
    pub(super) heard: Duration,
    /// Whether its record says what is no longer so.
    pub(super) is_outdated: bool,
}

impl Own {
    pub(super) fn new(registered: Registered, now: Duration) -> Self {
        Self {
            registered,
            heard: now,
            is_outdated: false,
        }
    }

    pub(super) fn replace(&mut self, registered: Registered, now: Duration) {
        self.refresh(registered);
        self.heard = now;
    }

    pub(super) fn refresh(&mut self, mut registered: Registered) {
        if registered.signed_record.is_empty() {
            // nobody has asked for one
            let known = &mut self.registered;
            registered.signed_record = std::mem::take(&mut known.signed_record);
            registered.record_times = known.record_times;
        } else {
            self.is_outdated = false;
        }
        self.registered = registered;
    }

    /// How long ago it was heard.
    pub fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(self.heard)
    }

    /// Whether this edge vouches for it.
    pub fn liveness(&self, now: Duration) -> Liveness {
        let ttl = Duration::from_secs(self.registered.ttl_seconds.into());
        let silence = self.silence(now);
        if silence < ttl {
            Liveness::Live
        } else if silence < ttl * (1 + GONE_AFTER_TTLS) {
            Liveness::Suspect
        } else {
            Liveness::Gone
        }
    }

    pub(super) fn status(&self, now: Duration, unix: i64) -> Status {
        let (made, ends) = self.registered.record_times;
        let is_due = unix >= made + (ends - made) / 2;
        Status {
            agent_id: self.registered.agent_id.clone(),
            epoch: self.registered.epoch,
            liveness: self.liveness(now),
            wants_record: self.is_outdated || self.registered.signed_record.is_empty() || is_due,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn registered(agent: &str, epoch: u64) -> Registered {
        Registered {
            agent_id: agent.parse().unwrap(),
            epoch,
            machine_id: "mch_0000000000000000000007".parse().unwrap(),
            api_key_id: "apk_0000000000000000000008".parse().unwrap(),
            capabilities: vec!["finance.invoices@1.2".parse().unwrap()],
            endpoint: Some("http://127.0.0.1:8000/mcp".parse().unwrap()),
            labels: BTreeMap::from([("region".to_owned(), "eu".to_owned())]),
            trust_level: 800,
            zone: Zone::LocalMachine,
            ttl_seconds: 90,
            registered_at: 1000,
            signed_record: "a.b.c".to_owned(),
            record_times: (1000, 4600),
        }
    }

    #[test]
    fn silence_makes_an_agent_suspect_and_then_gone() {
        let own = Own::new(registered("a", 1), Duration::from_secs(100));
        let at = |seconds: u64| own.liveness(Duration::from_secs(100 + seconds));
        assert_eq!((at(0), at(89)), (Liveness::Live, Liveness::Live));
        assert_eq!((at(90), at(449)), (Liveness::Suspect, Liveness::Suspect));
        assert_eq!(at(450), Liveness::Gone);
    }

    #[test]
    fn a_record_is_made_anew_at_half_of_its_life_and_when_it_is_wrong() {
        let mut own = Own::new(registered("a", 1), Duration::ZERO);
        let wants = |own: &Own, unix| own.status(Duration::ZERO, unix).wants_record;
        assert!(!wants(&own, 2799));
        assert!(wants(&own, 2800));
        own.is_outdated = true;
        assert!(wants(&own, 1000));
        let newer = Registered {
            signed_record: "d.e.f".to_owned(),
            ..registered("a", 1)
        };
        own.refresh(newer);
        assert!(!wants(&own, 1000));
        // a word without a record leaves the one that is there
        let bare = Registered {
            signed_record: String::new(),
            record_times: (0, 0),
            ..registered("a", 1)
        };
        own.refresh(bare);
        assert_eq!(own.registered.signed_record, "d.e.f");
        own.registered.signed_record.clear();
        assert!(wants(&own, 1000));
    }
}
