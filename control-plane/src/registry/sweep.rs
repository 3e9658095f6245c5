//! The sweep: edges that were not heard, and registrations whose key or machine
//! counts no more.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{ids::MachineId, liveness::Liveness};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    AgentChange, Registry, change,
    fate::{self, Fate},
    store,
};
use crate::error::Result;

/// Edges, or orphaned agents, judged in one transaction …
const EDGES: i64 = 64;
/// … and transactions of one sweep: when a whole network goes, its edges are
/// judged at the time that is configured for each.
const ROUNDS: usize = 64;

/// For how long this process has been looking without a break, on the steady
/// clock. Silence counts only while somebody listens: after a start, an outage
/// of the database or a suspended host, nobody is judged by what could not have
/// been heard.
#[derive(Debug, Default)]
pub(super) struct Sight {
    since: Option<Duration>,
    last: Duration,
}

impl Sight {
    /// Looks; returns for how long it has done so.
    fn look(&mut self, at: Duration, blink: Duration) -> Duration {
        let since = match self.since {
            Some(since) if at.saturating_sub(self.last) <= blink => since,
            _ => at,
        };
        self.since = Some(since);
        self.last = at;
        at.saturating_sub(since)
    }

    /// It could not look.
    fn lose(&mut self) {
        self.since = None;
    }
}

impl Registry {
    /// Judges edges and their agents by server time, at most some thousands; several control
    /// planes may do so at the same time. Returns how many agents are judged
    /// otherwise than before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn sweep(&self) -> Result<u64> {
        let swept = self.judge_all().await;
        if swept.is_err() {
            self.sight().lose();
        }
        swept
    }

    async fn judge_all(&self) -> Result<u64> {
        let watched = self
            .sight()
            .look(self.ambient.clock.since_boot(), self.timing.blink());
        let mut judged = 0;
        for _ in 0..ROUNDS {
            let (edges, agents) = self.judge_silent(watched).await?;
            judged += agents;
            if i64::try_from(edges).is_ok_and(|edges| edges < EDGES) {
                break;
            }
        }
        for _ in 0..ROUNDS {
            let (orphaned, ended) = self.end_orphaned().await?;
            judged += ended;
            if i64::try_from(orphaned).is_ok_and(|orphaned| orphaned < EDGES) {
                break;
            }
        }
        Ok(judged)
    }

    fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Edges that were not heard for longer than usual while this process
    /// listened: how many, and how many of their agents are judged otherwise.
    async fn judge_silent(&self, watched: Duration) -> Result<(usize, u64)> {
        let now = self.ambient.clock.now();
        let heard_before = |silence: Duration| {
            if watched < silence {
                OffsetDateTime::UNIX_EPOCH // nobody
            } else {
                now - silence
            }
        };
        let suspect = heard_before(self.timing.suspect_after);
        let gone = heard_before(self.timing.gone_after);
        let mut tx = self.db.begin().await?;
        let edges = store::lock_silent_edges(&mut tx, suspect, gone, EDGES).await?;
        if edges.is_empty() {
            return Ok((0, 0));
        }
        let machines: Vec<Uuid> = edges.iter().map(|(machine, _)| machine.as_uuid()).collect();
        let agents = store::registrations(&mut tx, &[], &machines).await?;
        store::judge_edges(&mut tx, &edges).await?;
        let edges: HashMap<MachineId, Liveness> = edges.into_iter().collect();
        let fates = agents.iter().map(|agent| {
            let edge = edges.get(&agent.machine_id).copied();
            (agent, Fate::of(agent).under(edge.unwrap_or(Liveness::Live)))
        });
        let changes = fate::write(&mut tx, now, fates).await?;
        let judged = self.commit(tx, now, &changes).await?;
        Ok((machines.len(), judged))
    }

    /// Registrations whose key was revoked or has expired, or whose machine was
    /// evicted: how many there were to look at, and how many are judged otherwise.
    async fn end_orphaned(&self) -> Result<(usize, u64)> {
        let now = self.ambient.clock.now();
        let orphaned = {
            let mut connection = self.db.read().await?;
            store::orphaned(&mut connection, now, EDGES).await?
        };
        if orphaned.is_empty() {
            return Ok((0, 0));
        }
        let mut tx = self.db.begin().await?;
        let agents = store::lock_registrations(&mut tx, &orphaned, &[]).await?;
        let fates = agents
            .iter()
            .map(|agent| (agent, Fate::of(agent).orphaned()));
        let changes = fate::write(&mut tx, now, fates).await?;
        let ended = self.commit(tx, now, &changes).await?;
        Ok((orphaned.len(), ended))
    }

    async fn commit(
        &self,
        mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
        now: OffsetDateTime,
        changes: &[AgentChange],
    ) -> Result<u64> {
        change::append(&mut tx, now, changes).await?;
        self.db.commit(tx).await?;
        Ok(changes.len() as u64)
    }

    /// Forgets what has been gone for long enough, at most `limit`; returns how
    /// many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn forget(&self, limit: i64) -> Result<u64> {
        let before = self.ambient.clock.now() - self.timing.forget_after;
        let mut tx = self.db.begin().await?;
        let forgotten = store::forget(&mut tx, before, limit).await?;
        self.db.commit(tx).await?;
        Ok(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn silence_counts_only_while_somebody_listens() {
        let mut sight = Sight::default();
        assert_eq!(sight.look(seconds(100), seconds(5)), seconds(0));
        assert_eq!(sight.look(seconds(104), seconds(5)), seconds(4));
        assert_eq!(sight.look(seconds(109), seconds(5)), seconds(9));
        assert_eq!(sight.look(seconds(115), seconds(5)), seconds(0));
        assert_eq!(sight.look(seconds(116), seconds(5)), seconds(1));
        sight.lose();
        assert_eq!(sight.look(seconds(117), seconds(5)), seconds(0));
    }
}
