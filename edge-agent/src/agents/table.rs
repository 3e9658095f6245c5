//! The agents of this machine and when each was last heard.

use std::{collections::HashMap, sync::Arc, time::Duration};

use authguardian_proto::{ids::AgentId, liveness::Liveness};

use super::{Agent, Own, file::Line, record::Kept};

/// An agent, since boot.
#[derive(Debug)]
struct Row {
    agent: Arc<Agent>,
    record: Option<Kept>,
    /// Something is another: a record is wanted before its time.
    is_stale: bool,
    seen_at: Duration,
    /// As it was last looked at.
    judged: Liveness,
    /// Which change of the table brought this registration.
    since: u64,
}

impl Row {
    fn liveness(&self, now: Duration) -> Liveness {
        let silent = now.saturating_sub(self.seen_at);
        if silent < self.agent.ttl() {
            Liveness::Live
        } else if silent < self.gone_after() {
            Liveness::Suspect
        } else {
            Liveness::Gone
        }
    }

    fn gone_after(&self) -> Duration {
        self.agent.ttl() * 2
    }

    fn wants_record(&self, now: Duration) -> bool {
        self.is_stale || self.record.as_ref().is_none_or(|kept| kept.due <= now)
    }

    fn own(&self, now: Duration) -> Own {
        Own {
            agent: self.agent.clone(),
            liveness: self.liveness(now),
            age: now.saturating_sub(self.seen_at),
        }
    }
}

/// What is to be told to the registry of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub agent_id: AgentId,
    /// Which registration of it.
    pub epoch: u64,
    /// Whether it has shown signs of life.
    pub liveness: Liveness,
    /// Whether a new signed record is due.
    pub wants_record: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    rows: HashMap<AgentId, Row>,
    /// Counts registrations that were taken.
    taken: u64,
}

impl Table {
    /// Each agent has one time to live to be heard again.
    pub(super) fn restored(lines: Vec<Line>, now: Duration) -> Self {
        let mut table = Self::default();
        for line in lines {
            table.take(line.agent, line.record.map(Kept::due_now), now);
        }
        table
    }

    /// Takes what the registry says of an agent; a new registration is a sign of
    /// life. An earlier one than is known says nothing.
    pub(super) fn take(&mut self, agent: Agent, record: Option<Kept>, now: Duration) {
        let known = self.rows.remove(&agent.agent_id);
        self.taken += 1;
        let (agent, old) = match known {
            Some(row) if row.agent.epoch > agent.epoch => (row.agent.clone(), Some(row)),
            Some(row) if row.agent.epoch == agent.epoch => (Arc::new(agent), Some(row)),
            _ => (Arc::new(agent), None),
        };
        let id = agent.agent_id.clone();
        let row = match old {
            Some(row) => Row {
                agent,
                is_stale: row.is_stale && record.is_none(),
                record: record.or(row.record),
                ..row
            },
            None => Row {
                agent,
                record,
                is_stale: false,
                seen_at: now,
                judged: Liveness::Live,
                since: self.taken,
            },
        };
        self.rows.insert(id, row);
    }

    /// Of those that were there when this many had been taken, only these are there
    /// still.
    pub(super) fn keep_only(&mut self, taken: u64, is_there: impl Fn(&Agent) -> bool) {
        self.rows
            .retain(|_, row| row.since > taken || is_there(&row.agent));
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Ends a registration and all earlier ones of the agent; returns whether
    /// there was one.
    pub(super) fn end(&mut self, agent: &AgentId, epoch: u64) -> bool {
        let ends = |row: &Row| row.agent.epoch <= epoch;
        self.rows.get(agent).is_some_and(ends) && self.rows.remove(agent).is_some()
    }

    /// A sign of life; returns whether the agent counted as silent until then.
    pub(super) fn heard(&mut self, agent: &AgentId, now: Duration) -> bool {
        let Some(row) = self.rows.get_mut(agent) else {
            return false;
        };
        row.seen_at = now;
        std::mem::replace(&mut row.judged, Liveness::Live) != Liveness::Live
    }

    /// Returns whether it is one of this table.
    pub(super) fn want_record(&mut self, agent: &AgentId) -> bool {
        self.rows
            .get_mut(agent)
            .map(|row| row.is_stale = true)
            .is_some()
    }

    /// Looks at all; whether any is judged otherwise than before.
    pub(super) fn judge(&mut self, now: Duration) -> (Vec<Status>, bool) {
        let mut is_other = false;
        let statuses = self.rows.values_mut().map(|row| {
            let liveness = row.liveness(now);
            is_other |= std::mem::replace(&mut row.judged, liveness) != liveness;
            Status {
                agent_id: row.agent.agent_id.clone(),
                epoch: row.agent.epoch,
                liveness,
                wants_record: row.wants_record(now),
            }
        });
        (statuses.collect(), is_other)
    }

    /// When the next will be judged otherwise, if nothing is heard.
    pub(super) fn next_change(&self, now: Duration) -> Option<Duration> {
        let changes = self
            .rows
            .values()
            .filter_map(|row| match row.liveness(now) {
                Liveness::Live => Some(row.seen_at + row.agent.ttl()),
                Liveness::Suspect => Some(row.seen_at + row.gone_after()),
                Liveness::Gone => None,
            });
        changes.min()
    }

    pub(super) fn get(&self, agent: &AgentId, now: Duration) -> Option<Own> {
        self.rows.get(agent).map(|row| row.own(now))
    }

    pub(super) fn all(&self, now: Duration) -> Vec<Own> {
        self.rows.values().map(|row| row.own(now)).collect()
    }

    /// Those that are vouched for and have one.
    pub(super) fn records(&self, now: Duration) -> Vec<Arc<str>> {
        let live = self.rows.values();
        let live = live.filter(|row| row.liveness(now) == Liveness::Live);
        let texts = live.filter_map(|row| row.record.as_ref());
        texts.map(|kept| kept.text.clone()).collect()
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<_> = self
            .rows
            .values()
            .map(|row| Line {
                agent: row.agent.as_ref().clone(),
                record: row.record.as_ref().map(|kept| kept.text.to_string()),
            })
            .collect();
        lines.sort_by(|a, b| a.agent.agent_id.cmp(&b.agent.agent_id));
        lines
    }
}
