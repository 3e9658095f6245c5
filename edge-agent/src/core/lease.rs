//! The lease of this edge on its machine: one heartbeat for all of its agents.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::{
    ids::AgentId,
    liveness::Liveness,
    reason::{Problem, Reason},
    registry::v1::{AgentStatus, BeginEdgeResponse, HeartbeatRequest, HeartbeatResponse},
};
use tokio_util::sync::CancellationToken;

use super::{Core, register_agent::registered};
use crate::{
    agents::{Own, Status},
    upstream::{AgentNews, Change, Timing},
};

/// How often everything is said, whatever the control plane should know.
const COMPLETE_EVERY: Duration = Duration::from_mins(1);

/// Between a change and the heartbeat that tells it.
const SPACING: Duration = Duration::from_millis(100);

/// For the last word of an edge that ends.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The lease, as it stands.
struct Lease {
    incarnation: u64,
    sequence: u64,
    timing: Timing,
    /// What the control plane has been told of each agent.
    told: BTreeMap<AgentId, (u64, Liveness)>,
    /// When everything was said last; `None`: it has to be.
    complete_at: Option<Duration>,
}

impl Core {
    /// Keeps the lease until `stop`, then says that nobody vouches for the agents
    /// any more. `peer_address` is where edges of other machines reach this one;
    /// empty: they do not.
    pub async fn keep_lease(self: Arc<Self>, peer_address: String, stop: CancellationToken) {
        let mut changes = self.agents.changes();
        let mut lease = None;
        let mut failures = 0;
        loop {
            changes.mark_unchanged();
            let outcome = match &mut lease {
                None => self
                    .begin(&peer_address)
                    .await
                    .map(|begun| lease = Some(begun)),
                Some(held) => self.beat(held, &peer_address).await,
            };
            let pause = match outcome {
                Ok(()) => {
                    failures = 0;
                    lease
                        .as_ref()
                        .map_or(LAST_WORD, |held| held.timing.heartbeat)
                }
                Err(problem) => {
                    failures += 1;
                    self.failed(&mut lease, &problem, failures)
                }
            };
            self.save_agents().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // several changes at once are one heartbeat
                heard = changes.changed(), if failures == 0 => match heard {
                    Ok(()) => tokio::time::sleep(SPACING.min(pause)).await,
                    Err(_) => return,
                },
                () = stop.cancelled() => break,
            }
        }
        self.save_agents().await;
        if let Some(held) = &mut lease {
            let _ = tokio::time::timeout(LAST_WORD, self.take_leave(held, &peer_address)).await;
        }
    }

    async fn begin(&self, peer_address: &str) -> Result<Lease, Problem> {
        // what is registered while this is under way is not in the answer
        let before = self.agents.all();
        let (begun, timing) = self.upstream.begin_edge(peer_address.to_owned()).await?;
        let BeginEdgeResponse {
            incarnation,
            agents,
            ..
        } = begun;
        let now = self.ambient.clock.since_boot();
        let mut known = HashSet::with_capacity(agents.len());
        for own in agents {
            let registered = registered(own)?;
            known.insert(registered.agent_id.clone());
            self.agents.refresh(registered, now);
        }
        for Own { registered, .. } in before {
            if !known.contains(&registered.agent_id) {
                self.agents.forget(&registered.agent_id, registered.epoch);
            }
        }
        self.neighbours_timing(timing);
        self.slices.begin(incarnation);
        tracing::debug!(
            incarnation,
            agents = known.len(),
            "the lease of this edge has begun"
        );
        let mut lease = Lease {
            incarnation,
            sequence: 0,
            timing,
            told: BTreeMap::new(),
            complete_at: None,
        };
        self.beat(&mut lease, peer_address).await?;
        Ok(lease)
    }

    async fn beat(&self, lease: &mut Lease, peer_address: &str) -> Result<(), Problem> {
        let now = self.ambient.clock.since_boot();
        let statuses = self.agents.statuses(now, self.unix());
        let complete = lease
            .complete_at
            .is_none_or(|at| now >= at + COMPLETE_EVERY);
        let said: Vec<&Status> = statuses
            .iter()
            .filter(|status| complete || lease.is_news(status))
            .collect();
        lease.sequence += 1;
        let request = lease.request(peer_address, &said, complete);
        let (heard, timing) = self.upstream.heartbeat(request).await?;
        lease.timing = timing;
        self.neighbours_timing(timing);
        if complete {
            lease.complete_at = Some(now);
            lease.told.clear();
        }
        for status in said {
            let told = (status.epoch, status.liveness);
            lease.told.insert(status.agent_id.clone(), told);
        }
        self.take_answer(heard, &statuses, now)
    }

    fn take_answer(
        &self,
        heard: HeartbeatResponse,
        statuses: &[Status],
        now: Duration,
    ) -> Result<(), Problem> {
        for own in heard.agents {
            self.agents.refresh(registered(own)?, now);
        }
        for ended in &heard.ended {
            let status = statuses
                .iter()
                .find(|status| status.agent_id.as_str() == ended);
            if let Some(status) = status {
                tracing::info!(agent = ended, "the registration of an agent has ended");
                self.agents.forget(&status.agent_id, status.epoch);
            }
        }
        Ok(())
    }

    /// What comes after a heartbeat that was not taken: another begin where the
    /// lease is another's, else everything once more. How long to wait.
    fn failed(&self, lease: &mut Option<Lease>, problem: &Problem, failures: u32) -> Duration {
        tracing::debug!(reason = %problem.reason, detail = problem.detail, "the lease was not prolonged");
        if problem.reason == Reason::LeaseExpired {
            if failures > 2 {
                tracing::warn!("another process of this machine holds its lease");
            }
            *lease = None;
        }
        if let Some(held) = lease {
            held.complete_at = None;
        }
        let longest = lease
            .as_ref()
            .map_or(Timing::default().heartbeat, |held| held.timing.heartbeat);
        let shortest = longest.min(Duration::from_millis(200));
        let pause = shortest * 2_u32.saturating_pow(failures.min(6));
        self.ambient.jittered(pause.min(longest))
    }

    /// The last word: the agents may live, but nobody vouches for them.
    async fn take_leave(&self, lease: &mut Lease, peer_address: &str) -> Result<(), Problem> {
        let now = self.ambient.clock.since_boot();
        let mut statuses = self.agents.statuses(now, self.unix());
        for status in &mut statuses {
            status.liveness = status.liveness.max(Liveness::Suspect);
            status.wants_record = false;
        }
        if statuses.is_empty() {
            return Ok(());
        }
        lease.sequence += 1;
        let said: Vec<&Status> = statuses.iter().collect();
        let request = lease.request(peer_address, &said, true);
        self.upstream.heartbeat(request).await.map(drop)
    }

    async fn save_agents(&self) {
        let agents = self.agents.clone();
        let saved = tokio::task::spawn_blocking(move || agents.save()).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the agents of this edge cannot be kept on disk");
        }
    }

    /// Follows what the registry says of the agents of this edge.
    pub async fn follow_registry(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.upstream.feed().subscribe();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(Change::Agent {
                    agent_id,
                    news,
                    epoch,
                    ..
                }) => self.heard_of(&agent_id, news, epoch),
                Ok(Change::OtherMachine {
                    machine_id,
                    refused: true,
                }) => self.neighbours.drop_machine(machine_id),
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn heard_of(&self, agent: &AgentId, news: AgentNews, epoch: u64) {
        match news {
            AgentNews::Deregistered | AgentNews::Released => {
                self.agents.forget(agent, epoch);
                self.neighbours.drop_agent(agent, epoch);
            }
            // how far it is trusted may be another
            AgentNews::Other => self.agents.renew_record(agent),
            AgentNews::Registered
            | AgentNews::Updated
            | AgentNews::Live
            | AgentNews::Suspect
            | AgentNews::Gone => {}
        }
    }
}

impl Lease {
    fn is_news(&self, status: &Status) -> bool {
        status.wants_record
            || self.told.get(&status.agent_id) != Some(&(status.epoch, status.liveness))
    }

    fn request(&self, peer_address: &str, said: &[&Status], complete: bool) -> HeartbeatRequest {
        HeartbeatRequest {
            incarnation: self.incarnation,
            sequence: self.sequence,
            peer_address: peer_address.to_owned(),
            agents: said
                .iter()
                .map(|status| AgentStatus {
                    agent_id: status.agent_id.to_string(),
                    epoch: status.epoch,
                    liveness: status.liveness.to_proto().into(),
                    wants_record: status.wants_record,
                })
                .collect(),
            complete,
        }
    }
}
