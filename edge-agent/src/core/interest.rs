//! What concerns a caller.

use std::sync::Arc;

use authguardian_proto::ids::{AgentId, TaskId};

use super::Spenders;
use crate::upstream::Target;

/// The agents whose matters a caller is told of.
#[derive(Debug, Clone)]
pub(super) struct Interest(Arc<[AgentId]>);

impl Interest {
    pub(super) fn new(agents: Arc<[AgentId]>) -> Self {
        Self(agents)
    }

    /// In what happens to a grant of this agent; one whose holder cannot be told
    /// is anybody's.
    pub(super) fn is_in_grant_of(&self, agent: Option<&AgentId>) -> bool {
        agent.is_none_or(|agent| self.0.contains(agent))
    }

    /// In what happens to a budget.
    pub(super) fn is_in_budget_of(&self, task: &TaskId, spenders: &Spenders) -> bool {
        spenders.have_one_of(task, &self.0)
    }

    /// In the end of all grants that match. An agent may have grants of any type,
    /// by any policy and, with the same key elsewhere, through any machine.
    pub(super) fn is_in_matching(&self, target: &Target) -> bool {
        match target {
            Target::Agent(agent) => self.0.contains(agent),
            Target::Machine(_)
            | Target::ResourceType(_)
            | Target::Policy(_)
            | Target::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_concern_an_agent_of_the_caller_does() {
        let mine: AgentId = "mine".parse().unwrap();
        let other: AgentId = "other".parse().unwrap();
        let interest = Interest::new([mine.clone()].into());
        assert!(interest.is_in_grant_of(Some(&mine)));
        assert!(!interest.is_in_grant_of(Some(&other)));
        assert!(interest.is_in_grant_of(None), "it may be mine");
        assert!(interest.is_in_matching(&Target::Agent(mine)));
        assert!(!interest.is_in_matching(&Target::Agent(other)));
        for target in [
            Target::Machine("mch_0000000000000000000009".parse().unwrap()),
            Target::ResourceType("SAP_API".parse().unwrap()),
            Target::Policy("p".to_owned()),
            Target::Everything,
        ] {
            assert!(interest.is_in_matching(&target), "{target:?}");
        }
    }
}
