//! Heartbeats by the batch: one row for each edge, and more only where an edge
//! says something else of an agent than before.

use std::collections::{HashMap, HashSet};

use authguardian_proto::{
    ids::{AgentId, MachineId},
    liveness::Liveness,
    reason::Reason,
};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    AgentChange, PeerAddress, Registration, Registry, Timing, change,
    fate::{self, Fate},
    lease::Lease,
    store,
};
use crate::{
    clock::Ambient,
    db::{
        Db,
        batch::{self, Served},
    },
    error::{Error, Result},
};

/// One sign of life of an edge.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// Whose.
    pub machine: MachineId,
    /// Of which process.
    pub incarnation: i64,
    /// Which of its heartbeats, counted from 1.
    pub sequence: i64,
    /// Where edges of other machines reach it.
    pub peer_address: Option<PeerAddress>,
    /// What it says of its agents.
    pub agents: Vec<Said>,
    /// Whether those are all.
    pub complete: bool,
}

/// What an edge says of one agent.
#[derive(Debug, Clone)]
pub struct Said {
    /// Which.
    pub agent_id: AgentId,
    /// Of which registration.
    pub epoch: i64,
    /// Whether it vouches for it.
    pub liveness: Liveness,
    /// Whether a new signed record is wanted.
    pub wants_record: bool,
}

/// What an edge is told.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Those that a record was wanted of.
    pub wanted: Vec<Registration>,
    /// Named agents whose registration of that epoch is no more.
    pub ended: Vec<AgentId>,
}

impl Registry {
    /// Takes a heartbeat.
    ///
    /// # Errors
    /// `LEASE_EXPIRED` when another process of the machine has begun, or none;
    /// `REVISION_CONFLICT` when a later heartbeat of this one has been taken.
    pub async fn heartbeat(&self, heartbeat: Heartbeat) -> Result<Heard> {
        self.heartbeats.call(heartbeat).await
    }
}

/// The batch operation.
pub(super) struct Operation {
    pub(super) db: Db,
    pub(super) ambient: Ambient,
    pub(super) timing: Timing,
}

impl batch::Operation for Operation {
    type Request = Heartbeat;
    type Reply = Heard;

    fn db(&self) -> Option<&Db> {
        Some(&self.db)
    }

    #[tracing::instrument(name = "registry.heartbeat", skip_all, fields(batch = requests.len()))]
    async fn run(&self, requests: &[Heartbeat]) -> Result<Served<Heard>> {
        let now = self.ambient.clock.now();
        let mut tx = self.db.begin().await?;
        let mut leases = Leases::lock(&mut tx, requests).await?;
        let taken: Vec<Result<()>> = requests
            .iter()
            .map(|heartbeat| leases.take(heartbeat, now))
            .collect();
        let good = || {
            let both = requests.iter().zip(&taken);
            both.filter(|(_, taken)| taken.is_ok())
                .map(|(heartbeat, _)| heartbeat)
        };
        if good().next().is_none() {
            return Ok(Served::now(
                taken
                    .into_iter()
                    .map(|taken| taken.map(|()| Heard::default()))
                    .collect(),
            ));
        }
        // before the leases are written: how long each was vouched for shows in them
        let mut agents = Agents::read(&mut tx, &leases, good()).await?;
        leases.write(&mut tx).await?;
        for heartbeat in good() {
            agents.hear(heartbeat, now, self.timing.heartbeat);
        }
        let changes = agents.write(&mut tx, now).await?;
        change::append(&mut tx, now, &changes).await?;
        let confirmation = self.db.commit_batch(tx).await?;
        let replies = requests
            .iter()
            .zip(taken)
            .map(|(heartbeat, taken)| taken.map(|()| agents.heard(heartbeat)))
            .collect();
        Ok(Served {
            replies,
            confirmation,
        })
    }
}

/// The leases of a batch.
struct Leases {
    held: HashMap<MachineId, Lease>,
    taken: HashSet<MachineId>,
    /// Of edges that were not live before.
    revived: HashSet<MachineId>,
}

impl Leases {
    async fn lock(connection: &mut PgConnection, requests: &[Heartbeat]) -> Result<Self> {
        let machines: HashSet<Uuid> = requests
            .iter()
            .map(|heartbeat| heartbeat.machine.as_uuid())
            .collect();
        let machines: Vec<Uuid> = machines.into_iter().collect();
        let leases = store::lock_edges(connection, &machines).await?;
        Ok(Self {
            held: leases
                .into_iter()
                .map(|lease| (lease.machine, lease))
                .collect(),
            taken: HashSet::new(),
            revived: HashSet::new(),
        })
    }

    fn take(&mut self, heartbeat: &Heartbeat, now: OffsetDateTime) -> Result<()> {
        let lease = self
            .held
            .get_mut(&heartbeat.machine)
            .filter(|lease| lease.incarnation == heartbeat.incarnation)
            .ok_or_else(|| {
                Error::new(
                    Reason::LeaseExpired,
                    "this process of the edge does not hold its machine's lease; begin again",
                )
            })?;
        if heartbeat.sequence <= lease.sequence {
            return Err(Error::new(
                Reason::RevisionConflict,
                format!(
                    "heartbeat {} of this process has been taken already",
                    lease.sequence
                ),
            ));
        }
        if lease.liveness != Liveness::Live {
            self.revived.insert(heartbeat.machine);
        }
        self.taken.insert(heartbeat.machine);
        lease.sequence = heartbeat.sequence;
        lease.peer_address.clone_from(&heartbeat.peer_address);
        lease.hear(now);
        Ok(())
    }

    async fn write(&self, connection: &mut PgConnection) -> Result<()> {
        let taken: Vec<&Lease> = self
            .held
            .values()
            .filter(|lease| self.taken.contains(&lease.machine))
            .collect();
        store::write_edges(connection, &taken).await
    }
}

/// The registrations that a batch says something of, and what becomes of them.
struct Agents(HashMap<AgentId, (Registration, Fate)>);

impl Agents {
    async fn read<'a>(
        connection: &mut PgConnection,
        leases: &Leases,
        heartbeats: impl Iterator<Item = &'a Heartbeat>,
    ) -> Result<Self> {
        let mut machines = leases.revived.clone();
        let mut named = Vec::new();
        for heartbeat in heartbeats {
            if heartbeat.complete {
                machines.insert(heartbeat.machine);
            }
            named.extend(heartbeat.agents.iter().map(|said| said.agent_id.clone()));
        }
        if machines.is_empty() && named.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        let machines: Vec<Uuid> = machines.into_iter().map(MachineId::as_uuid).collect();
        let read = store::registrations(connection, &named, &machines).await?;
        let with_fate = read.into_iter().map(|agent| {
            let fate = if leases.taken.contains(&agent.machine_id) {
                Fate::of(&agent).under(Liveness::Live)
            } else {
                Fate::of(&agent) // named by another machine than its own
            };
            (agent.agent_id.clone(), (agent, fate))
        });
        Ok(Self(with_fate.collect()))
    }

    fn hear(&mut self, heartbeat: &Heartbeat, now: OffsetDateTime, beat: std::time::Duration) {
        for said in &heartbeat.agents {
            if let Some((agent, fate)) = self.0.get_mut(&said.agent_id)
                && speaks_of(heartbeat, said, agent)
            {
                *fate = fate.said(said.liveness, now).under(Liveness::Live);
            }
        }
        if !heartbeat.complete {
            return;
        }
        let named: HashSet<&AgentId> = heartbeat.agents.iter().map(|said| &said.agent_id).collect();
        for (agent, fate) in self.0.values_mut() {
            // one that registers just now may not have been told to the edge when it said this
            let is_fresh = agent.updated_at + beat * 2 > now;
            let unnamed = agent.machine_id == heartbeat.machine && !named.contains(&agent.agent_id);
            if unnamed && !is_fresh && !fate.ended {
                *fate = fate.said(Liveness::Gone, now).under(Liveness::Live);
            }
        }
    }

    async fn write(
        &self,
        connection: &mut PgConnection,
        now: OffsetDateTime,
    ) -> Result<Vec<AgentChange>> {
        let fates = self.0.values().map(|(agent, fate)| (agent, *fate));
        fate::write(connection, now, fates).await
    }

    fn heard(&self, heartbeat: &Heartbeat) -> Heard {
        let mut heard = Heard::default();
        for said in &heartbeat.agents {
            match self.0.get(&said.agent_id) {
                Some((agent, fate)) if speaks_of(heartbeat, said, agent) => {
                    if said.wants_record {
                        heard.wanted.push(fate.applied(agent, heartbeat));
                    }
                }
                _ => heard.ended.push(said.agent_id.clone()),
            }
        }
        heard
    }
}

/// Whether it is this registration that an edge says something of.
fn speaks_of(heartbeat: &Heartbeat, said: &Said, agent: &Registration) -> bool {
    agent.machine_id == heartbeat.machine && agent.epoch == said.epoch && !agent.ended
}
