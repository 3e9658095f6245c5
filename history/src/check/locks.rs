//! Locks, by real time alone: what holders may rely on, whatever the order of
//! everything else.

use std::{collections::BTreeMap, time::Duration};

use super::{Rule, Violation};
use crate::operation::{
    Act, Answer, Call, Compare, Condition, History, LockHeld, Operation, Outcome,
};

/// Whether no lock was surely held by two at a time, fencing revisions grew
/// from holder to holder, and nothing was written under a lock that somebody
/// else had been told to have since.
///
/// # Errors
/// The two calls that do not go together.
pub fn locks(history: &History) -> Result<(), Violation> {
    let tenures = tenures(history);
    for tenures in tenures.values() {
        one_at_a_time(tenures)?;
        grows(tenures)?;
    }
    for operation in &history.operations {
        is_fenced(operation, &tenures)?;
    }
    Ok(())
}

/// From when to when one surely held it.
struct Tenure<'h> {
    taken: &'h Operation,
    fencing: u64,
    /// When it was told so.
    from: Duration,
    /// When it began to leave it, or its time was over at the earliest.
    to: Duration,
    /// The revision that says until when.
    revision: u64,
}

impl Tenure<'_> {
    fn renew(&mut self, operation: &Operation, to: Duration) {
        let revision = operation.made_revision().unwrap_or(0);
        let is_this = lock_answer(operation) == Some((true, self.fencing));
        if is_this && self.revision < revision {
            (self.to, self.revision) = (to, revision);
        }
    }

    /// Also where its outcome is unknown, or where it names no lock.
    fn leave(&mut self, operation: &Operation, to: Duration) {
        let names_it = named_fencing(operation).is_none_or(|named| named == self.fencing);
        let is_over = operation.end.is_some_and(|end| end < self.taken.start);
        if names_it && !is_over && self.taken.agent == operation.agent {
            self.to = self.to.min(to.max(self.taken.start));
        }
    }
}

/// By key; in the order of fencing revisions.
fn tenures(history: &History) -> BTreeMap<&str, Vec<Tenure<'_>>> {
    let mut found: BTreeMap<&str, BTreeMap<u64, Tenure<'_>>> = BTreeMap::new();
    for operation in &history.operations {
        let Some((Act::Acquire, key, ttl)) = lock_call(operation) else {
            continue;
        };
        if let Some((true, fencing)) = lock_answer(operation) {
            let tenure = Tenure {
                taken: operation,
                fencing,
                from: operation.end.unwrap_or(Duration::MAX),
                to: operation.start + ttl,
                revision: fencing,
            };
            found
                .entry(key)
                .or_default()
                .entry(fencing)
                .or_insert(tenure);
        }
    }
    for operation in &history.operations {
        let Some((act, key, ttl)) = lock_call(operation) else {
            continue;
        };
        for tenure in found
            .get_mut(key)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            match act {
                Act::Renew => tenure.renew(operation, operation.start + ttl),
                Act::Acquire | Act::Release => {}
            }
        }
    }
    for operation in &history.operations {
        let Some((act, key, ttl)) = lock_call(operation) else {
            continue;
        };
        for tenure in found
            .get_mut(key)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            let is_unknown = operation.outcome == Outcome::Unknown;
            match act {
                Act::Release => tenure.leave(operation, operation.start),
                // it may come so late that it makes the time shorter
                Act::Renew if is_unknown => tenure.leave(operation, operation.start + ttl),
                Act::Renew | Act::Acquire => {}
            }
        }
    }
    found
        .into_iter()
        .map(|(key, tenures)| (key, tenures.into_values().collect()))
        .collect()
}

fn one_at_a_time(tenures: &[Tenure<'_>]) -> Result<(), Violation> {
    let mut by_time: Vec<&Tenure<'_>> = tenures
        .iter()
        .filter(|tenure| tenure.from < tenure.to)
        .collect();
    by_time.sort_by_key(|tenure| tenure.from);
    let mut longest: Option<&Tenure<'_>> = None;
    for tenure in by_time {
        if let Some(before) = longest
            && tenure.from < before.to
        {
            let text = format!(
                "fencing revisions {} and {} were held at {:?}",
                before.fencing, tenure.fencing, tenure.from
            );
            return Err(Violation::new(Rule::TwoHolders, text).with([before.taken, tenure.taken]));
        }
        if longest.is_none_or(|before| before.to < tenure.to) {
            longest = Some(tenure);
        }
    }
    Ok(())
}

/// One that was taken when another had been told is above it.
fn grows(tenures: &[Tenure<'_>]) -> Result<(), Violation> {
    let mut later_told: Option<&Tenure<'_>> = None;
    for tenure in tenures.iter().rev() {
        if let Some(above) = later_told
            && above.from < tenure.taken.start
        {
            let text = format!(
                "fencing revision {} was taken after {} had been told",
                tenure.fencing, above.fencing
            );
            return Err(Violation::new(Rule::Fencing, text).with([above.taken, tenure.taken]));
        }
        if later_told.is_none_or(|above| tenure.from < above.from) {
            later_told = Some(tenure);
        }
    }
    Ok(())
}

fn is_fenced(
    operation: &Operation,
    tenures: &BTreeMap<&str, Vec<Tenure<'_>>>,
) -> Result<(), Violation> {
    if operation.made_revision().is_none() {
        return Ok(());
    }
    for LockHeld {
        key,
        fencing_revision,
    } in named_locks(operation)
    {
        let mut others = tenures.get(key.as_str()).into_iter().flatten();
        let since = others
            .find(|tenure| tenure.fencing > fencing_revision && tenure.from < operation.start);
        if let Some(since) = since {
            let text = format!(
                "written under fencing revision {fencing_revision} after {} had been told",
                since.fencing
            );
            return Err(Violation::new(Rule::NotFenced, text).with([since.taken, operation]));
        }
    }
    Ok(())
}

/// The locks under which something was written.
fn named_locks(operation: &Operation) -> Vec<LockHeld> {
    match (&operation.call, operation.answer()) {
        (Call::Put { if_lock, .. } | Call::Delete { if_lock, .. }, _) => {
            if_lock.iter().cloned().collect()
        }
        (
            Call::Transact { compare, .. },
            Some(Answer::Transacted {
                succeeded: true, ..
            }),
        ) => {
            let held = |compare: &Compare| match compare.condition {
                Condition::Held(fencing_revision) => Some(LockHeld {
                    key: compare.key.clone(),
                    fencing_revision,
                }),
                _ => None,
            };
            compare.iter().filter_map(held).collect()
        }
        _ => Vec::new(),
    }
}

fn lock_call(operation: &Operation) -> Option<(Act, &str, Duration)> {
    match &operation.call {
        Call::Lock { act, key, ttl, .. } => Some((*act, key, *ttl)),
        _ => None,
    }
}

fn named_fencing(operation: &Operation) -> Option<u64> {
    match &operation.call {
        Call::Lock {
            fencing_revision, ..
        } => *fencing_revision,
        _ => None,
    }
}

/// Whether it is held, and its fencing revision.
fn lock_answer(operation: &Operation) -> Option<(bool, u64)> {
    match operation.answer()? {
        Answer::Locked {
            held,
            fencing_revision,
            ..
        } => Some((*held, *fencing_revision)),
        _ => None,
    }
}
