//! What is remembered of slices that are over, and of which nothing is left to be told: a
//! database that was restored from a backup has forgotten them, and is told again.

use std::collections::BTreeMap;

use authguardian_proto::ids::TaskId;

use super::ledger::Amount;

/// How long it is remembered, milliseconds.
const KEPT: u64 = 90 * 24 * 60 * 60 * 1000;
/// Between two times that it is looked what is too old, milliseconds.
const PAUSE: u64 = 60 * 60 * 1000;
/// Most slices that are remembered.
const MOST: usize = 100_000;

/// What a slice has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Past {
    /// All that it was ever given.
    pub granted: Amount,
    /// All that it gave back.
    pub returned: Amount,
    /// All that was spent of it.
    pub spent: Amount,
    /// When the window that it is of began, seconds since 1970; `None`: there is none, or it
    /// is not known.
    pub window: Option<i64>,
    /// When it was over, milliseconds since 1970 by the control plane.
    pub ended_at: u64,
}

/// The slices of this machine that are over.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Since when nothing was forgotten, milliseconds since 1970 by the control plane; `None`:
    /// nothing was heard of it yet.
    since: Option<u64>,
    /// By task and epoch.
    slices: BTreeMap<TaskId, BTreeMap<u64, Past>>,
    count: usize,
    most: Option<usize>,
    /// When it was looked last what is too old.
    looked_at: u64,
}

impl Past {
    /// What is told of it where it was given anew: all of that is given back at once.
    #[must_use]
    pub fn given_anew(self, granted: Amount) -> Self {
        let granted = self.granted.max(granted);
        let returned = granted.saturating_sub(self.spent);
        Self {
            granted,
            returned: returned.max(self.returned),
            ..self
        }
    }
}

impl Memory {
    /// Since when nothing was forgotten.
    pub(super) fn since(&self) -> Option<u64> {
        self.since
    }

    /// It begins now, or has forgotten what was before.
    pub(super) fn begin(&mut self, since: u64) {
        self.since = self.since.max(Some(since));
    }

    /// What a slice has come to; `None`: it is not over, or nothing was spent of it.
    pub(super) fn get(&self, task: &TaskId, epoch: u64) -> Option<Past> {
        self.slices.get(task)?.get(&epoch).copied()
    }

    /// Remembers a slice.
    pub(super) fn insert(&mut self, task: TaskId, epoch: u64, past: Past) {
        let before = self.slices.entry(task).or_default().insert(epoch, past);
        self.count += usize::from(before.is_none());
    }

    /// All that was over at some time or later.
    pub(super) fn after(&self, time: u64) -> Vec<(TaskId, u64, Past)> {
        let all = self.all().filter(|(_, _, past)| past.ended_at >= time);
        all.map(|(task, epoch, past)| (task.clone(), epoch, past))
            .collect()
    }

    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&TaskId, u64, Past)> {
        let tasks = self.slices.iter();
        tasks.flat_map(|(task, slices)| {
            slices
                .iter()
                .map(move |(epoch, past)| (task, *epoch, *past))
        })
    }

    /// Whether it is time to look what is too old.
    pub(super) fn is_to_be_looked_at(&mut self, now: u64) -> bool {
        let is_due = now >= self.looked_at.saturating_add(PAUSE) || self.count > self.most();
        if is_due {
            self.looked_at = now;
        }
        is_due
    }

    fn most(&self) -> usize {
        self.most.unwrap_or(MOST)
    }

    /// Up to when slices were over that are to be forgotten: what is too old, and the oldest
    /// of too many, with some more so that this is not so at once again. `None`: none are.
    pub(super) fn too_old(&self, now: u64) -> Option<u64> {
        let most = self.most();
        let horizon = now.saturating_sub(KEPT);
        let is_old = self.all().any(|(_, _, past)| past.ended_at < horizon);
        let mut up_to = is_old.then(|| horizon.saturating_sub(1));
        if self.count > most {
            let ended = self.all().map(|(_, _, past)| past.ended_at);
            let mut ended: Vec<u64> = ended.collect();
            ended.sort_unstable();
            let surplus = self.count - most + most / 10;
            up_to = up_to.max(ended.get(surplus.saturating_sub(1)).copied());
        }
        up_to
    }

    /// Forgets what was over by then.
    pub(super) fn forget(&mut self, up_to: u64) {
        self.begin(up_to.saturating_add(1));
        for slices in self.slices.values_mut() {
            slices.retain(|_, past| past.ended_at > up_to);
        }
        self.slices.retain(|_, slices| !slices.is_empty());
        self.count = self.slices.values().map(BTreeMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(ended_at: u64) -> Past {
        Past {
            granted: 10,
            returned: 3,
            spent: 7,
            window: None,
            ended_at,
        }
    }

    fn task(name: &str) -> TaskId {
        name.parse().unwrap()
    }

    #[test]
    fn what_is_forgotten_is_said_to_be() {
        let mut memory = Memory {
            most: Some(20),
            ..Memory::default()
        };
        memory.begin(1);
        for epoch in 1..=20 {
            memory.insert(task("t"), epoch, past(1000 + epoch));
        }
        memory.insert(task("t"), 20, past(1020));
        assert_eq!(memory.too_old(5000), None);
        memory.insert(task("u"), 1, past(2000));
        // one too many, and a tenth
        let up_to = memory.too_old(5000).unwrap();
        assert_eq!(up_to, 1003);
        memory.forget(up_to);
        assert_eq!((memory.since(), memory.count), (Some(1004), 18));
        assert_eq!(memory.get(&task("t"), 3), None);
        assert_eq!(memory.get(&task("t"), 4), Some(past(1004)));
        assert_eq!(memory.after(1020).len(), 2);
        assert_eq!(memory.too_old(5000), None);
    }

    #[test]
    fn nothing_is_remembered_for_longer_than_ninety_days() {
        let mut memory = Memory::default();
        memory.begin(1);
        let day = 24 * 60 * 60 * 1000;
        memory.insert(task("t"), 1, past(day));
        memory.insert(task("t"), 2, past(2 * day));
        assert_eq!(memory.too_old(91 * day), None);
        let up_to = memory.too_old(91 * day + 1).unwrap();
        memory.forget(up_to);
        assert_eq!(memory.since(), Some(day + 1));
        assert_eq!(memory.all().count(), 1);
    }
}
