//! What is set aside of one task's slices, and what no longer is.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use authguardian_proto::ids::AgentId;
use uuid::Uuid;

use super::{ledger::Amount, remembered::Remembered};

/// Reservations that have ended, and are known by it.
const ENDED: usize = 10_000;

/// An amount that is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) by: AgentId,
    /// Of which slice.
    pub(super) epoch: u64,
    pub(super) amount: Amount,
    /// Since boot: it is released by itself.
    pub(super) until: Duration,
}

/// One that is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) by: AgentId,
    /// Otherwise it was not in time.
    pub(super) is_settled: bool,
}

/// All of one task.
#[derive(Debug, Clone)]
pub(super) struct Reservations {
    open: HashMap<Uuid, Open>,
    expiry: BTreeSet<(Duration, Uuid)>,
    ended: Remembered<Uuid, Ended>,
}

impl Default for Reservations {
    fn default() -> Self {
        Self {
            open: HashMap::new(),
            expiry: BTreeSet::new(),
            ended: Remembered::new(ENDED),
        }
    }
}

impl Reservations {
    pub(super) fn get(&self, id: Uuid) -> Option<&Open> {
        self.open.get(&id)
    }

    pub(super) fn ended(&self, id: Uuid) -> Option<&Ended> {
        self.ended.get(&id)
    }

    pub(super) fn insert(&mut self, id: Uuid, open: Open) {
        self.expiry.insert((open.until, id));
        self.open.insert(id, open);
    }

    /// It has ended, settled or not.
    pub(super) fn end(&mut self, id: Uuid, is_settled: bool) -> Option<(u64, Amount)> {
        let Open {
            by,
            epoch,
            amount,
            until,
        } = self.open.remove(&id)?;
        self.expiry.remove(&(until, id));
        self.ended.insert(id, Ended { by, is_settled });
        Some((epoch, amount))
    }

    /// One that had ended before.
    pub(super) fn insert_ended(&mut self, id: Uuid, ended: Ended) {
        self.ended.insert(id, ended);
    }

    /// Nobody knows any more what these have come to.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
        self.expiry.clear();
    }

    /// Those that are not settled in time, the oldest first.
    pub(super) fn expired(&self, now: Duration) -> impl Iterator<Item = Uuid> {
        let expired = self
            .expiry
            .iter()
            .take_while(move |(until, _)| *until <= now);
        expired.map(|(_, id)| *id)
    }

    pub(super) fn all_open(&self) -> impl Iterator<Item = (&Uuid, &Open)> {
        self.open.iter()
    }

    pub(super) fn all_ended(&self) -> impl Iterator<Item = (&Uuid, &Ended)> {
        self.ended.iter()
    }
}
