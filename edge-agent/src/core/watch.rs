//! Telling a subscriber which of its resources changed.

use std::collections::BTreeSet;

use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};

use super::{Interest, Resource};
use crate::upstream::Change;

/// What shows the grants of a caller's agents.
const OF_GRANTS: [Resource; 2] = [Resource::ActiveGrants, Resource::AuditEntries];

/// The changes that concern one caller.
pub struct Watch {
    changes: Receiver<Change>,
    interest: Interest,
}

/// Changes since a moment, not yet anybody's.
pub struct Changes(pub(super) Receiver<Change>);

impl Watch {
    pub(super) fn new(changes: Receiver<Change>, interest: Interest) -> Self {
        Self { changes, interest }
    }

    /// Waits for a change and returns what to read again; several changes that
    /// are there already are told as one. `None` when the edge ends.
    pub async fn next(&mut self) -> Option<BTreeSet<Resource>> {
        loop {
            let mut changed = match self.changes.recv().await {
                Ok(change) => self.concerned(&change),
                Err(RecvError::Lagged(_)) => Resource::ALL.into(),
                Err(RecvError::Closed) => return None,
            };
            loop {
                match self.changes.try_recv() {
                    Ok(change) => changed.append(&mut self.concerned(&change)),
                    Err(TryRecvError::Lagged(_)) => changed.extend(Resource::ALL),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if !changed.is_empty() {
                return Some(changed);
            }
        }
    }

    fn concerned(&self, change: &Change) -> BTreeSet<Resource> {
        let of_grants = match change {
            Change::Grant { agent_id } | Change::Revoked { agent_id, .. } => {
                self.interest.is_in_grant_of(agent_id.as_ref())
            }
            Change::RevokedMatching { target, .. } => self.interest.is_in_matching(target),
            Change::Everything => return Resource::ALL.into(),
            Change::Agent { agent_id, .. } => {
                let mut changed = BTreeSet::from([Resource::Registry]);
                if self.interest.is_in_grant_of(Some(agent_id)) {
                    changed.insert(Resource::AuditEntries);
                }
                return changed;
            }
            Change::ApiKeyRevoked(_)
            | Change::ApiKeyChanged(_)
            | Change::SessionEnded(_)
            | Change::SigningKeysChanged
            | Change::OtherMachine { .. }
            | Change::Budget { .. }
            | Change::Machine { .. } => false,
        };
        if of_grants {
            OF_GRANTS.into()
        } else {
            BTreeSet::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use crate::upstream::AgentNews;

    use super::*;

    fn watch(changes: &broadcast::Sender<Change>) -> Watch {
        Watch::new(
            changes.subscribe(),
            Interest::new(["mine".parse().unwrap()].into()),
        )
    }

    fn of_agent(id: &str) -> Change {
        Change::Grant {
            agent_id: Some(id.parse().unwrap()),
        }
    }

    #[tokio::test]
    async fn only_changes_of_the_callers_agents_are_told_and_many_as_one() {
        let changes = broadcast::Sender::new(16);
        let mut watch = watch(&changes);
        changes.send(of_agent("other")).unwrap();
        changes.send(of_agent("mine")).unwrap();
        changes.send(of_agent("mine")).unwrap();
        assert_eq!(watch.next().await, Some(OF_GRANTS.into()));
        drop(changes);
        assert_eq!(watch.next().await, None);
    }

    #[tokio::test]
    async fn what_happens_to_any_agent_changes_the_registry() {
        let changes = broadcast::Sender::new(16);
        let mut watch = watch(&changes);
        let news = |agent: &str| Change::Agent {
            agent_id: agent.parse().unwrap(),
            news: AgentNews::Suspect,
            machine_id: None,
            epoch: 5,
        };
        changes.send(news("other")).unwrap();
        assert_eq!(watch.next().await, Some([Resource::Registry].into()));
        changes.send(news("mine")).unwrap();
        let both = [Resource::Registry, Resource::AuditEntries];
        assert_eq!(watch.next().await, Some(both.into()));
    }

    #[tokio::test]
    async fn a_slow_subscriber_reads_all_again() {
        let changes = broadcast::Sender::new(2);
        let mut watch = watch(&changes);
        for _ in 0..5 {
            changes.send(of_agent("other")).unwrap();
        }
        assert_eq!(watch.next().await, Some(Resource::ALL.into()));
    }
}
