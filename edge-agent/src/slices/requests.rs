//! Requests that are known by the id that their caller gave them.

use authguardian_proto::ids::{AgentId, RequestId};
use uuid::Uuid;

use super::{ledger::Amount, remembered::Remembered};

/// How many of one task.
const KNOWN: usize = 10_000;

/// What a request has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Set an amount aside.
    Reserved { id: Uuid, amount: Amount },
    /// Spent an amount.
    Spent { amount: Amount, overdraft: Amount },
}

/// The last requests of one task.
#[derive(Debug, Clone)]
pub(super) struct Requests(Remembered<Box<str>, Done>);

impl Default for Requests {
    fn default() -> Self {
        Self(Remembered::new(KNOWN))
    }
}

impl Requests {
    pub(super) fn get(&self, by: &AgentId, id: &RequestId) -> Option<Done> {
        let key = key(by.as_str(), id.as_str());
        self.0.get(&*key).copied()
    }

    pub(super) fn insert(&mut self, by: &str, id: &str, done: Done) {
        self.0.insert(key(by, id), done);
    }

    /// Agent, request id and what was done, the oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, Done)> {
        let all = self.0.iter();
        all.filter_map(|(key, done)| key.split_once(' ').map(|(by, id)| (by, id, *done)))
    }
}

/// Neither has a space in it.
fn key(by: &str, id: &str) -> Box<str> {
    format!("{by} {id}").into()
}
