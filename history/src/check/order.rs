//! The order that revisions and real time leave to calls.
//!
//! A call that was told a position has one place: a write is its revision, a
//! read stands between its revision and the next. Calls without (a key that is
//! not there, a condition that did not hold) may stand in any gap between two
//! revisions that real time allows.

use std::{collections::BTreeMap, time::Duration};

use super::{Rule, Violation};
use crate::operation::{Answer, History, Operation, Outcome, Refusal};

/// Every call in its place.
#[derive(Debug, Default)]
pub(super) struct Order<'h> {
    /// By the revision that they made.
    pub(super) writers: BTreeMap<u64, &'h Operation>,
    /// By the revision at which they changed nothing.
    pub(super) readers: BTreeMap<u64, Vec<&'h Operation>>,
    /// Those without a place, in the order in which they began.
    pub(super) floats: Vec<Float<'h>>,
    /// Those that may have happened.
    pub(super) unknown: Vec<&'h Operation>,
    /// No call of this or a later place has ended before; by place.
    earliest_end_from: Vec<(Place, Duration)>,
    /// The last revision that anybody was told.
    pub(super) last: u64,
}

/// A call without a place.
#[derive(Debug)]
pub(super) struct Float<'h> {
    pub(super) operation: &'h Operation,
    /// It stands behind this revision, or a later one.
    pub(super) from: u64,
    /// It stands before the revision that follows this one; `None`: no bound.
    pub(super) to: Option<u64>,
}

/// A revision (0), or what stands between it and the next (1).
type Place = (u64, u8);

impl<'h> Order<'h> {
    /// Sorts all calls.
    ///
    /// # Errors
    /// Two calls with one revision, or one that real time forbids.
    pub(super) fn of(history: &'h History) -> Result<Self, Violation> {
        let mut this = Self::default();
        let mut floats = Vec::new();
        for operation in &history.operations {
            match &operation.outcome {
                Outcome::Done(answer) => this.place(operation, answer)?,
                Outcome::Refused(Refusal::Other(_)) => {}
                Outcome::Refused(_) => floats.push(operation),
                Outcome::Unknown if operation.is_mutating() => this.unknown.push(operation),
                Outcome::Unknown => {}
            }
        }
        let placed = this.placed();
        in_real_time(&placed)?;
        in_epochs(&placed)?;
        this.last = placed.last().map_or(0, |((revision, _), _)| *revision);
        this.earliest_end_from = earliest_ends(&placed);
        this.floats = floating(&placed, floats)?;
        Ok(this)
    }

    fn place(&mut self, operation: &'h Operation, answer: &Answer) -> Result<(), Violation> {
        let revision = answer.position().revision;
        if !answer.makes_a_revision(&operation.call) {
            self.readers.entry(revision).or_default().push(operation);
            return Ok(());
        }
        match self.writers.insert(revision, operation) {
            None => Ok(()),
            Some(other) => Err(Violation::new(
                Rule::RevisionTwice,
                format!("revision {revision} was told to two calls"),
            )
            .with([other, operation])),
        }
    }

    /// All that have a place, by it.
    fn placed(&self) -> Vec<(Place, &'h Operation)> {
        let writers = self
            .writers
            .iter()
            .map(|(revision, operation)| ((*revision, 0), *operation));
        let readers = self.readers.iter().flat_map(|(revision, operations)| {
            let place = (*revision, 1);
            operations.iter().map(move |operation| (place, *operation))
        });
        let mut placed: Vec<_> = writers.chain(readers).collect();
        placed.sort_by_key(|(place, operation)| (*place, operation.start));
        placed
    }

    /// What makes this revision has to have begun by then, since somebody who
    /// comes behind it has ended; `None`: no bound.
    pub(super) fn latest_start(&self, revision: u64) -> Option<Duration> {
        let index = self
            .earliest_end_from
            .partition_point(|(place, _)| *place < (revision, 0));
        self.earliest_end_from.get(index).map(|(_, end)| *end)
    }
}

fn in_real_time(placed: &[(Place, &Operation)]) -> Result<(), Violation> {
    // the one that began last of all before the current place, and of it
    let mut before: Option<&Operation> = None;
    let mut here: Option<(Place, &Operation)> = None;
    for (place, operation) in placed {
        if here.is_some_and(|(last, _)| last != *place) {
            before = later(before, here.map(|(_, operation)| operation));
            here = None;
        }
        if let (Some(before), Some(end)) = (before, operation.end)
            && end < before.start
        {
            return Err(Violation::new(
                Rule::RealTime,
                "the first was told something older than the second, which had ended before the first began",
            )
            .with([before, operation]));
        }
        here = Some((
            *place,
            later(here.map(|(_, operation)| operation), Some(operation)).unwrap_or(operation),
        ));
    }
    Ok(())
}

fn later<'h>(one: Option<&'h Operation>, other: Option<&'h Operation>) -> Option<&'h Operation> {
    match (one, other) {
        (Some(one), Some(other)) if one.start >= other.start => Some(one),
        (one, None) => one,
        (_, other) => other,
    }
}

/// A promotion goes on behind what the old primary has acknowledged.
fn in_epochs(placed: &[(Place, &Operation)]) -> Result<(), Violation> {
    let mut newest: Option<(Place, u64, &Operation)> = None;
    for (place, operation) in placed {
        let Some(answer) = operation.answer() else {
            continue;
        };
        let epoch = answer.position().epoch;
        if let Some((last, highest, before)) = newest
            && epoch < highest
            && last < *place
        {
            return Err(Violation::new(
                Rule::Epoch,
                format!("revisions of epoch {epoch} behind those of epoch {highest}"),
            )
            .with([before, operation]));
        }
        if newest.is_none_or(|(_, highest, _)| epoch >= highest) {
            newest = Some((*place, epoch, operation));
        }
    }
    Ok(())
}

fn earliest_ends(placed: &[(Place, &Operation)]) -> Vec<(Place, Duration)> {
    let mut ends = Vec::with_capacity(placed.len());
    let mut earliest = Duration::MAX;
    for (place, operation) in placed.iter().rev() {
        earliest = earliest.min(operation.end.unwrap_or(Duration::MAX));
        ends.push((*place, earliest));
    }
    ends.reverse();
    ends
}

/// Finds out between which revisions each may stand.
fn floating<'h>(
    placed: &[(Place, &'h Operation)],
    mut floats: Vec<&'h Operation>,
) -> Result<Vec<Float<'h>>, Violation> {
    floats.sort_by_key(|operation| operation.start);
    let by_end = highest_place_by_end(placed);
    let by_start = lowest_place_from_start(placed);
    let mut found = Vec::with_capacity(floats.len());
    for operation in floats {
        let ended = by_end.partition_point(|(end, _)| *end < operation.start);
        let from = ended
            .checked_sub(1)
            .and_then(|index| by_end.get(index))
            .map_or(0, |(_, (revision, _))| *revision);
        let end = operation.end.unwrap_or(Duration::MAX);
        let began = by_start.partition_point(|(start, _)| *start <= end);
        let to = by_start.get(began).map(|(_, place)| match place {
            (revision, 0) => revision.saturating_sub(1),
            (revision, _) => *revision,
        });
        if to.is_some_and(|to| to < from) {
            let text =
                "no moment for it between those that ended before and those that began after";
            return Err(Violation::new(Rule::NoMoment, text).with([operation]));
        }
        found.push(Float {
            operation,
            from,
            to,
        });
    }
    Ok(found)
}

/// For each end: the highest place of those that have ended by then.
fn highest_place_by_end(placed: &[(Place, &Operation)]) -> Vec<(Duration, Place)> {
    let ended = |(place, operation): &(Place, &Operation)| Some((operation.end?, *place));
    let mut by_end: Vec<_> = placed.iter().filter_map(ended).collect();
    by_end.sort_unstable();
    let mut highest = (0, 0);
    for (_, place) in &mut by_end {
        highest = highest.max(*place);
        *place = highest;
    }
    by_end
}

/// For each start: the lowest place of those that start then or later.
fn lowest_place_from_start(placed: &[(Place, &Operation)]) -> Vec<(Duration, Place)> {
    let mut by_start: Vec<_> = placed
        .iter()
        .map(|(place, operation)| (operation.start, *place))
        .collect();
    by_start.sort_unstable();
    let mut lowest = (u64::MAX, 1);
    for (_, place) in by_start.iter_mut().rev() {
        lowest = lowest.min(*place);
        *place = lowest;
    }
    by_start
}
