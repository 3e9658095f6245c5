//! Suspensions as decisions see them: what matches one is neither granted nor
//! renewed. Who suspended what, and why, is an affair of `identity`.

use std::collections::HashSet;

use authguardian_proto::ids::{AgentId, MachineId, ResourceTypeName};
use sqlx::PgConnection;

use super::store;
use crate::{error::Result, events::SuspensionTarget};

/// All that is suspended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspensions {
    everything: bool,
    agents: HashSet<AgentId>,
    machines: HashSet<MachineId>,
    resource_types: HashSet<ResourceTypeName>,
}

impl Suspensions {
    /// Whether one of them covers a request.
    pub fn cover(
        &self,
        agent: &AgentId,
        machine: MachineId,
        resource_type: &ResourceTypeName,
    ) -> bool {
        self.everything
            || self.agents.contains(agent)
            || self.machines.contains(&machine)
            || self.resource_types.contains(resource_type)
    }

    /// Whether nothing is done for anybody of a machine.
    pub fn cover_machine(&self, machine: MachineId) -> bool {
        self.everything || self.machines.contains(&machine)
    }

    /// The agents that are suspended.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        self.agents.iter()
    }

    /// The resource types that are suspended.
    pub fn resource_types(&self) -> impl Iterator<Item = &ResourceTypeName> {
        self.resource_types.iter()
    }
}

impl FromIterator<SuspensionTarget> for Suspensions {
    fn from_iter<I: IntoIterator<Item = SuspensionTarget>>(targets: I) -> Self {
        let mut all = Self::default();
        for target in targets {
            match target {
                SuspensionTarget::Agent(agent) => {
                    all.agents.insert(agent);
                }
                SuspensionTarget::Machine(machine) => {
                    all.machines.insert(machine);
                }
                SuspensionTarget::ResourceType(name) => {
                    all.resource_types.insert(name);
                }
                SuspensionTarget::Everything => all.everything = true,
            }
        }
        all
    }
}

/// What is suspended, as the connection sees it; not locked.
///
/// # Errors
/// When the database refuses.
pub async fn suspensions(connection: &mut PgConnection) -> Result<Suspensions> {
    store::suspensions(connection).await
}

/// Keeps others from judging until the transaction ends, and waits for those
/// who are judging now. The lock is the table's and not its row's: whoever
/// waits for a table has newcomers queue behind, while share locks of a row
/// that keep overlapping would pass a waiter over for as long as the load lasts.
///
/// # Errors
/// When the database refuses.
pub async fn lock_suspensions(connection: &mut PgConnection) -> Result<()> {
    store::lock_suspensions(connection).await
}

/// Puts these in force in place of what was suspended before, under the lock.
///
/// # Errors
/// When the database refuses.
pub async fn set_suspensions(
    connection: &mut PgConnection,
    targets: &[SuspensionTarget],
) -> Result<()> {
    store::set_suspensions(connection, targets).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspension_covers_what_it_names_and_nothing_else() {
        let machine = |number| MachineId::from_uuid(uuid::Uuid::from_u128(number));
        let covered = |targets: &[SuspensionTarget]| {
            let all: Suspensions = targets.iter().cloned().collect();
            let ask = |agent: &str, number, name: &str| {
                all.cover(
                    &agent.parse().unwrap(),
                    machine(number),
                    &name.parse().unwrap(),
                )
            };
            [
                ask("a", 1, "T"),
                ask("b", 1, "T"),
                ask("a", 2, "T"),
                ask("a", 1, "U"),
            ]
        };
        assert_eq!(covered(&[]), [false; 4]);
        assert_eq!(covered(&[SuspensionTarget::Everything]), [true; 4]);
        let agent = SuspensionTarget::Agent("b".parse().unwrap());
        assert_eq!(covered(&[agent]), [false, true, false, false]);
        let second = SuspensionTarget::Machine(machine(2));
        assert_eq!(covered(&[second]), [false, false, true, false]);
        let kind = SuspensionTarget::ResourceType("U".parse().unwrap());
        assert_eq!(covered(&[kind]), [false, false, false, true]);
    }
}
