//! The begin of an edge process: it takes the lease of its machine over.

use authguardian_proto::ids::MachineId;

use super::{PeerAddress, Registration, Registry, change, fate, fate::Fate, store};
use crate::{error::Result, identity};

/// What a process that has begun is told.
#[derive(Debug, Clone)]
pub struct BegunEdge {
    /// Goes with each of its heartbeats.
    pub incarnation: i64,
    /// The agents registered through its machine.
    pub agents: Vec<Registration>,
}

impl Registry {
    /// Begins the lease of an edge process on its machine; heartbeats of every
    /// earlier process are refused from then on. Its agents are again what was
    /// last said of them.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`, `MACHINE_BANNED`, `MACHINE_EVICTED`.
    pub async fn begin_edge(
        &self,
        machine: MachineId,
        peer_address: Option<PeerAddress>,
    ) -> Result<BegunEdge> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        identity::machine::active_machine(&mut tx, machine).await?;
        let mut lease = store::ensure_edge(&mut tx, machine, now).await?;
        let agents = store::registrations(&mut tx, &[], &[machine.as_uuid()]).await?;
        let incarnation = store::next_epoch(&mut tx).await?;
        lease.incarnation = incarnation;
        lease.sequence = 0;
        lease.peer_address = peer_address;
        lease.hear(now);
        store::write_edges(&mut tx, &[&lease]).await?;
        let fates = agents
            .iter()
            .map(|agent| (agent, Fate::of(agent).under(lease.liveness)));
        let changes = fate::write(&mut tx, now, fates).await?;
        let mut agents = store::registrations(&mut tx, &[], &[machine.as_uuid()]).await?;
        agents.retain(|agent| !agent.ended);
        change::append(&mut tx, now, &changes).await?;
        self.db.commit(tx).await?;
        Ok(BegunEdge {
            incarnation,
            agents,
        })
    }
}
