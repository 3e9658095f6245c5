//! What has been revoked, as far as this edge has heard.

use authguardian_proto::{
    grant_token::Rev,
    ids::{AgentId, GrantId, MachineId, ResourceTypeName},
};
use papaya::HashMap;

use super::known::Known;

/// Which grants a predicate ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All of an agent.
    Agent(AgentId),
    /// All through a machine.
    Machine(MachineId),
    /// All of a resource type.
    ResourceType(ResourceTypeName),
    /// All that a policy determined.
    Policy(String),
    /// All.
    Everything,
}

/// A predicate's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    /// It ends what stands before this position.
    before: Rev,
    /// When the last grant that it can match ends, seconds since 1970.
    until: i64,
}

/// Single revocations and predicates. Readers take no lock; entries leave when
/// nothing that they end could still be alive.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// With the end of the grant's longest token, seconds since 1970.
    single: HashMap<GrantId, i64>,
    agents: HashMap<AgentId, Reach>,
    machines: HashMap<MachineId, Reach>,
    resource_types: HashMap<ResourceTypeName, Reach>,
    policies: HashMap<String, Reach>,
    everything: HashMap<(), Reach>,
}

impl Revocations {
    /// Ends one grant.
    pub(super) fn end(&self, grant: GrantId, until: i64) {
        let single = self.single.pin();
        single.update_or_insert(grant, |known| until.max(*known), until);
    }

    /// Ends all that match and stand before a position.
    pub(super) fn end_matching(&self, target: Target, before: Rev, until: i64) {
        let reach = Reach { before, until };
        match target {
            Target::Agent(agent) => widen(&self.agents, agent, reach),
            Target::Machine(machine) => widen(&self.machines, machine, reach),
            Target::ResourceType(name) => widen(&self.resource_types, name, reach),
            Target::Policy(id) => widen(&self.policies, id, reach),
            Target::Everything => widen(&self.everything, (), reach),
        }
    }

    /// Whether a grant has been ended.
    pub(super) fn cover(&self, known: &Known) -> bool {
        let terms = &known.terms;
        self.single.pin().contains_key(&known.grant_id)
            || reaches(&self.agents, &terms.agent_id, known.rev)
            || reaches(&self.machines, &terms.machine_id, known.rev)
            || reaches(&self.resource_types, &terms.resource_type, known.rev)
            || reaches(&self.everything, &(), known.rev)
            || (!self.policies.is_empty()
                && terms
                    .policies
                    .iter()
                    .any(|policy| reaches(&self.policies, policy, known.rev)))
    }

    /// Drops what ends nothing that could still be alive, `now` in seconds
    /// since 1970.
    pub(super) fn forget_spent(&self, now: i64) {
        self.single.pin().retain(|_, until| *until > now);
        self.agents.pin().retain(|_, reach| reach.until > now);
        self.machines.pin().retain(|_, reach| reach.until > now);
        self.resource_types
            .pin()
            .retain(|_, reach| reach.until > now);
        self.policies.pin().retain(|_, reach| reach.until > now);
        self.everything.pin().retain(|(), reach| reach.until > now);
    }

    /// How many single revocations are kept.
    pub(super) fn len(&self) -> usize {
        self.single.len()
    }
}

fn widen<K: std::hash::Hash + Eq>(reaches: &HashMap<K, Reach>, key: K, reach: Reach) {
    let widened = |known: &Reach| Reach {
        before: known.before.max(reach.before),
        until: known.until.max(reach.until),
    };
    reaches.pin().update_or_insert(key, widened, reach);
}

fn reaches<K: std::hash::Hash + Eq>(reaches: &HashMap<K, Reach>, key: &K, rev: Rev) -> bool {
    // predicates are rare: most often there is nothing to hash for
    !reaches.is_empty()
        && reaches
            .pin()
            .get(key)
            .is_some_and(|reach| rev < reach.before)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verify::known::tests::known;

    const UNTIL: i64 = 2_000;

    fn rev(revision: u64) -> Rev {
        Rev { epoch: 1, revision }
    }

    #[test]
    fn a_predicate_ends_what_stands_before_it_and_matches() {
        let targets = [
            Target::Agent("data_analyst".parse().unwrap()),
            Target::Machine(known(9).terms.machine_id),
            Target::ResourceType("SAP_API".parse().unwrap()),
            Target::Policy("permit".into()),
            Target::Everything,
        ];
        for target in targets {
            let revocations = Revocations::default();
            revocations.end_matching(target.clone(), rev(10), UNTIL);
            assert!(revocations.cover(&known(9)), "{target:?}");
            assert!(!revocations.cover(&known(10)), "{target:?}: not before it");
            assert!(!revocations.cover(&known(11)), "{target:?}: after it");
        }
        let others = [
            Target::Agent("orchestrator".parse().unwrap()),
            Target::Machine("mch_0000000000000000000009".parse().unwrap()),
            Target::ResourceType("DATA_EXPORT".parse().unwrap()),
            Target::Policy("other".into()),
        ];
        let revocations = Revocations::default();
        for other in others {
            revocations.end_matching(other, rev(10), UNTIL);
        }
        assert!(!revocations.cover(&known(9)));
    }

    #[test]
    fn an_older_epoch_stands_before_a_newer_one() {
        let revocations = Revocations::default();
        let newer = Rev {
            epoch: 2,
            revision: 1,
        };
        revocations.end_matching(Target::Everything, newer, UNTIL);
        assert!(revocations.cover(&known(1_000)));
    }

    #[test]
    fn what_is_spent_leaves_and_a_longer_end_wins() {
        let revocations = Revocations::default();
        revocations.end(known(1).grant_id, 100);
        revocations.end(known(1).grant_id, 50);
        revocations.end_matching(Target::Everything, rev(10), 100);
        revocations.forget_spent(99);
        assert!(revocations.cover(&known(20)), "by its id");
        assert_eq!(revocations.len(), 1);
        revocations.forget_spent(100);
        assert!(!revocations.cover(&known(1)));
        assert_eq!(revocations.len(), 0);
    }

    proptest! {
        /// Changes may come twice and in any order (a list, then the stream).
        #[test]
        fn the_order_of_predicates_does_not_matter(mut revisions in prop::collection::vec(1u64..50, 1..8), at in 1u64..50) {
            let judged = |revisions: &[u64]| {
                let revocations = Revocations::default();
                for revision in revisions {
                    revocations.end_matching(Target::Everything, rev(*revision), UNTIL);
                }
                revocations.cover(&known(at))
            };
            let forth = judged(&revisions);
            prop_assert_eq!(forth, revisions.iter().any(|revision| at < *revision));
            revisions.reverse();
            prop_assert_eq!(forth, judged(&revisions));
        }
    }
}
