//! What may have made a revision that nobody was told.

use std::{cmp::Reverse, time::Duration};

use super::explain::Search;
use crate::{model::Change, operation::Operation};

/// Of so many entries that may have ended by themselves in one revision that
/// nobody was told, all sets are tried; of more, not.
const MANY_ENDS: usize = 6;

/// What may make a revision.
#[derive(Debug, Clone)]
pub(super) enum Maker<'h> {
    Call(&'h Operation),
    Time,
}

/// A revision, as it may have been.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'h> {
    pub(super) maker: Maker<'h>,
    pub(super) changes: Vec<Change>,
    /// Nobody can have seen it before.
    pub(super) not_before: Duration,
}

impl<'h> Search<'h> {
    /// What may have made a revision that nobody was told: the likeliest last.
    pub(super) fn candidates(&self, revision: u64) -> Vec<Candidate<'h>> {
        let by = self.order.latest_start(revision).unwrap_or(Duration::MAX);
        let mut candidates = self.expiries(revision, by);
        for operation in self.order.unknown.iter().rev() {
            if operation.start > by || self.used.contains(&operation.number) {
                continue;
            }
            let mut ways = vec![self.board.effect(operation, Some(by)).changes];
            ways.push(self.board.effect(operation, None).changes);
            ways.dedup();
            for changes in ways.into_iter().filter(|changes| !changes.is_empty()) {
                candidates.push(Candidate {
                    maker: Maker::Call(operation),
                    changes,
                    not_before: operation.start,
                });
            }
        }
        candidates.retain(|candidate| self.facts.allow(revision, &candidate.changes));
        candidates
    }

    /// Ends of entries: those that a watcher was told, else any of them.
    fn expiries(&self, revision: u64, by: Duration) -> Vec<Candidate<'h>> {
        if self.facts.are_told(revision) && self.observers.expired(revision).is_none() {
            return Vec::new();
        }
        let by = by.saturating_add(self.clock_error);
        let mut old: Vec<(Duration, &str)> = self
            .board
            .entries()
            .iter()
            .filter(|(_, held)| held.has_outlived(Some(by)))
            .filter_map(|(key, held)| Some((held.ends?, key.as_str())))
            .collect();
        old.sort_unstable();
        old.reverse();
        let sets = if let Some(told) = self.observers.expired(revision) {
            old.retain(|(_, key)| told.contains(key));
            vec![old]
        } else {
            self.is_partial
                .set(self.is_partial.get() || old.len() > MANY_ENDS);
            subsets(&old)
        };
        let candidate = |set: Vec<(Duration, &str)>| {
            let ends = set.iter().map(|(ends, _)| *ends).max()?;
            Some(Candidate {
                maker: Maker::Time,
                changes: self.board.expire(set.iter().map(|(_, key)| *key)),
                not_before: ends.saturating_sub(self.clock_error),
            })
        };
        sets.into_iter().filter_map(candidate).collect()
    }
}

/// All but the empty one, larger ones first; of many items only the single
/// ones and all together.
fn subsets<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    if items.len() > MANY_ENDS {
        let single = items.iter().map(|item| vec![*item]);
        return std::iter::once(items.to_vec()).chain(single).collect();
    }
    let mut sets: Vec<Vec<T>> = (1_u32..1 << items.len())
        .map(|bits| {
            let chosen = items.iter().enumerate();
            chosen
                .filter(|(index, _)| bits & 1 << index != 0)
                .map(|(_, item)| *item)
                .collect()
        })
        .collect();
    sets.sort_by_key(|set| Reverse(set.len()));
    sets
}
