//! The records and machines, within their bounds.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use authguardian_proto::{
    agent_record::AgentRecord,
    ids::{AgentId, MachineId},
};

use super::{MAX_BYTES, MAX_ENDED, MAX_MACHINES, MAX_RECORDS_OF_MACHINE, Refused, Source};

/// A record that was taken.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) record: Arc<AgentRecord>,
    pub(super) bytes: usize,
    pub(super) source: Source,
    /// Since boot.
    pub(super) taken_at: Duration,
}

#[derive(Debug, Default)]
struct Machine {
    /// Since boot; `None`: only told of.
    heard_at: Option<Duration>,
    agents: HashSet<AgentId>,
}

/// Each agent has one record: its latest registration counts, wherever that is.
#[derive(Debug, Default)]
pub(super) struct Table {
    records: HashMap<AgentId, Kept>,
    machines: HashMap<MachineId, Machine>,
    bytes: usize,
    /// Registrations up to these are no more; the oldest are forgotten first.
    ended: HashMap<AgentId, u64>,
    ended_in_order: VecDeque<AgentId>,
}

impl Table {
    pub(super) fn take(&mut self, kept: Kept) -> Result<(), Refused> {
        let (agent, machine) = (kept.record.sub.clone(), kept.record.machine);
        if self
            .ended
            .get(&agent)
            .is_some_and(|&ended| kept.record.epoch <= ended)
        {
            return Err(Refused::Ended);
        }
        let known = self.records.get(&agent);
        if let Some(known) = known {
            let order = |kept: &Kept| (kept.record.epoch, kept.record.iat);
            if order(&kept) < order(known) {
                return Err(Refused::Superseded);
            }
        }
        let replaced = known.map_or(0, |known| known.bytes);
        if self.bytes - replaced + kept.bytes > MAX_BYTES {
            return Err(Refused::Full);
        }
        match self.machines.get(&machine) {
            None if self.machines.len() >= MAX_MACHINES => return Err(Refused::Full),
            Some(at)
                if !at.agents.contains(&agent) && at.agents.len() >= MAX_RECORDS_OF_MACHINE =>
            {
                return Err(Refused::Full);
            }
            _ => {}
        }
        self.remove(&agent);
        self.bytes += kept.bytes;
        let at = self.machines.entry(machine).or_default();
        at.agents.insert(agent.clone());
        self.records.insert(agent, kept);
        Ok(())
    }

    pub(super) fn heard(&mut self, machine: MachineId, source: Source, now: Duration) {
        if !self.machines.contains_key(&machine) && self.machines.len() >= MAX_MACHINES {
            return;
        }
        let at = self.machines.entry(machine).or_default();
        at.heard_at = Some(at.heard_at.map_or(now, |before| before.max(now)));
        for agent in &at.agents {
            if let Some(kept) = self.records.get_mut(agent) {
                kept.source = source;
            }
        }
    }

    pub(super) fn keep_only(&mut self, machine: MachineId, agents: &HashSet<AgentId>) {
        let Some(at) = self.machines.get(&machine) else {
            return;
        };
        let others: Vec<_> = at.agents.difference(agents).cloned().collect();
        for agent in others {
            self.remove(&agent);
        }
    }

    pub(super) fn end(&mut self, agent: &AgentId, epoch: u64) {
        if self
            .records
            .get(agent)
            .is_some_and(|kept| kept.record.epoch <= epoch)
        {
            self.remove(agent);
        }
        if let Some(ended) = self.ended.get_mut(agent) {
            *ended = epoch.max(*ended);
            return;
        }
        if self.ended.len() >= MAX_ENDED
            && let Some(oldest) = self.ended_in_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended.insert(agent.clone(), epoch);
        self.ended_in_order.push_back(agent.clone());
    }

    pub(super) fn drop_machine(&mut self, machine: MachineId) {
        self.keep_only(machine, &HashSet::new());
        self.machines.remove(&machine);
    }

    /// With the time at which its machine was last heard.
    pub(super) fn records(
        &self,
        machine: Option<MachineId>,
    ) -> impl Iterator<Item = (&Kept, Option<Duration>)> {
        let of = machine.and_then(|machine| self.machines.get(&machine));
        let of_machine = of.into_iter().flat_map(|at| &at.agents);
        let of_machine = of_machine.filter_map(|agent| self.records.get(agent));
        let all = machine.is_none().then(|| self.records.values());
        of_machine.chain(all.into_iter().flatten()).map(|kept| {
            let at = self.machines.get(&kept.record.machine);
            (kept, at.and_then(|at| at.heard_at))
        })
    }

    pub(super) fn forget_ended(&mut self, now: i64, since_boot: Duration, gone_after: Duration) {
        let ended = |kept: &&Kept| kept.record.exp <= now;
        let ended = self.records.values().filter(ended);
        let ended: Vec<_> = ended.map(|kept| kept.record.sub.clone()).collect();
        for agent in ended {
            self.remove(&agent);
        }
        self.machines.retain(|_, at| {
            let silent = |heard_at| since_boot.saturating_sub(heard_at) >= gone_after;
            !at.agents.is_empty() || !at.heard_at.is_none_or(silent)
        });
    }

    pub(super) fn len(&self) -> (usize, usize) {
        (self.machines.len(), self.records.len())
    }

    fn remove(&mut self, agent: &AgentId) {
        let Some(kept) = self.records.remove(agent) else {
            return;
        };
        self.bytes -= kept.bytes;
        if let Some(at) = self.machines.get_mut(&kept.record.machine) {
            at.agents.remove(agent);
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
