//! Facts: every input of a decision, gathered once, shown to the policies and
//! stored with the grant, so that the decision can be explained and repeated.

use authguardian_proto::{
    ids::{AgentId, MachineId, ResourceTypeName},
    zone::Zone,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    justification::Justification,
    scope::Reach,
    score::{self, Score},
};

/// A request and what is on record about it.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// On whose behalf.
    pub agent_id: &'a AgentId,
    /// The agent's trust, 0 to 1000; `None`: the agent has no record.
    pub agent_trust: Option<u32>,
    /// Whether a suspension covers the call.
    pub suspended: bool,
    /// Where the call came from.
    pub zone: Zone,
    /// From which machine.
    pub machine_id: MachineId,
    /// For what.
    pub resource_type: &'a ResourceTypeName,
    /// The type's risk, 0 to 1000.
    pub base_risk: u32,
    /// What exactly; `None`: not said, which counts as broad.
    pub scope: Option<&'a str>,
    /// For how long, in seconds.
    pub ttl_seconds: u32,
    /// Why.
    pub justification: &'a str,
    /// When it is judged.
    pub at: OffsetDateTime,
}

/// Every input of a decision. The justification's text stands beside them in
/// the grant; here is what was read out of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// On whose behalf.
    pub agent_id: AgentId,
    /// Whether the agent has a record.
    pub agent_known: bool,
    /// The agent's own trust, 0 to 1000; 300 without a record.
    pub agent_trust: u32,
    /// Whether agent, machine, type or everything was suspended; facts from
    /// before there were suspensions do not say.
    #[serde(default)]
    pub suspended: bool,
    /// Where the call came from.
    pub zone: Zone,
    /// The smaller of the agent's trust and the zone's limit.
    pub effective_trust: u32,
    /// From which machine.
    pub machine_id: MachineId,
    /// For what.
    pub resource_type: ResourceTypeName,
    /// The type's risk, 0 to 1000, before the scope adds to it.
    pub base_risk: u32,
    /// What exactly; `None`: not said.
    pub scope: Option<String>,
    /// What the scope reaches for.
    pub reach: Reach,
    /// For how long, in seconds.
    pub ttl_seconds: u32,
    /// What was read out of the justification.
    pub justification: Justification,
    /// The score and its parts.
    pub score: Score,
    /// When it was judged.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

impl Facts {
    /// Reads a request and scores it.
    pub fn gather(ask: &Ask<'_>) -> Self {
        let justification = Justification::read(ask.justification);
        let reach = Reach::read(ask.scope);
        let effective_trust = score::effective_trust(ask.agent_trust, ask.zone);
        Self {
            agent_id: ask.agent_id.clone(),
            agent_known: ask.agent_trust.is_some(),
            agent_trust: ask.agent_trust.unwrap_or(score::UNKNOWN_AGENT_TRUST),
            suspended: ask.suspended,
            zone: ask.zone,
            effective_trust,
            machine_id: ask.machine_id,
            resource_type: ask.resource_type.clone(),
            base_risk: ask.base_risk,
            scope: ask.scope.map(str::to_owned),
            reach,
            ttl_seconds: ask.ttl_seconds,
            justification,
            score: Score::weigh(
                justification.score(),
                effective_trust,
                score::risk(ask.base_risk, reach),
            ),
            at: ask.at,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    /// The roadmap's example, with parts to be replaced.
    pub(crate) struct Example {
        pub(crate) agent_trust: Option<u32>,
        pub(crate) suspended: bool,
        pub(crate) zone: Zone,
        pub(crate) resource_type: &'static str,
        pub(crate) base_risk: u32,
        pub(crate) scope: Option<&'static str>,
        pub(crate) justification: &'static str,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                agent_trust: Some(800),
                suspended: false,
                zone: Zone::LocalMachine,
                resource_type: "SAP_API",
                base_risk: 500,
                scope: None,
                justification: "Q4 analysis task",
            }
        }
    }

    impl Example {
        pub(crate) fn facts(&self) -> Facts {
            Facts::gather(&Ask {
                agent_id: &"data_analyst".parse().unwrap(),
                agent_trust: self.agent_trust,
                suspended: self.suspended,
                zone: self.zone,
                machine_id: MachineId::from_uuid(Uuid::from_u128(7)),
                resource_type: &self.resource_type.parse().unwrap(),
                base_risk: self.base_risk,
                scope: self.scope,
                ttl_seconds: 300,
                justification: self.justification,
                at: datetime!(2026-11-23 09:30 UTC),
            })
        }
    }

    #[test]
    fn the_roadmaps_example_is_gathered_with_score_570() {
        let facts = Example::default().facts();
        assert_eq!(
            facts.score,
            Score {
                total: 570,
                justification: 600,
                trust: 800,
                risk: 700
            }
        );
        assert!(facts.agent_known && facts.reach.broad && !facts.reach.writes);
    }

    #[test]
    fn an_agent_without_a_record_is_told_apart() {
        let facts = Example {
            agent_trust: None,
            ..Example::default()
        }
        .facts();
        assert!(!facts.agent_known);
        assert_eq!((facts.agent_trust, facts.effective_trust), (300, 300));
    }

    #[test]
    fn facts_read_back_from_json() {
        let facts = Example {
            scope: Some("read:invoices"),
            ..Example::default()
        }
        .facts();
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
        assert!(
            json.contains(r#""zone":"local_machine""#) && json.contains("2026-11-23T09:30:00Z"),
            "{json}"
        );
    }
}
