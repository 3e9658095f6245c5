//! Whether every acknowledged write is there, or something that has seen it.

use super::{ConvergenceReport, written::Written};
use crate::{
    check::{Rule, Violation},
    eventual::{Dot, Fate, Merged, Version, Write},
};

/// What has become of a write that is not lost.
enum Kept {
    Present,
    Replaced,
    Ended,
    Unproven,
}

/// Looks for every acknowledged write in what all replicas have, and counts.
///
/// # Errors
/// The write that is lost.
pub(super) fn check(
    merged: &Merged,
    written: &Written<'_>,
    report: &mut ConvergenceReport,
) -> Result<(), Violation> {
    let replica = merged.replicas.first();
    let keys = replica.into_iter().flat_map(|replica| &replica.keys);
    for (_, siblings) in keys {
        let versions = &siblings.versions;
        let values = versions.iter().filter(|version| version.value.is_some());
        let values = values.count();
        report.keys += usize::from(!versions.is_empty());
        report.with_siblings += usize::from(values > 1);
        report.deleted += usize::from(values == 0 && !versions.is_empty());
    }
    let acknowledged = merged.writes.iter();
    for write in acknowledged.filter(|write| write.fate == Fate::Acknowledged) {
        let siblings = replica.and_then(|replica| replica.keys.get(&write.key));
        let versions = siblings.map_or(&[][..], |siblings| &siblings.versions);
        match kept(write, versions, written)? {
            Kept::Present => report.present += 1,
            Kept::Replaced => report.replaced += 1,
            Kept::Ended => report.ended += 1,
            Kept::Unproven => report.unproven += 1,
        }
    }
    Ok(())
}

fn kept(write: &Write, versions: &[Version], written: &Written<'_>) -> Result<Kept, Violation> {
    let collected = written.collected(&write.key);
    if is_there(write, versions) {
        return Ok(Kept::Present);
    }
    if write
        .dot()
        .is_some_and(|dot| is_seen(write, dot, versions, written))
    {
        return Ok(Kept::Replaced);
    }
    if write.may_end {
        return Ok(Kept::Ended);
    }
    if is_untold(write, versions, written) {
        return Ok(Kept::Unproven);
    }
    let text = format!(
        "an acknowledged write of {:?} is not there, and nothing that is has seen it",
        write.key
    );
    let there = versions.iter().map(|version| format!("there: {version}"));
    let forgotten = collected.iter().map(|one| format!("forgotten: {one}"));
    Err(Violation::new(Rule::Lost, text)
        .with([write])
        .with(there)
        .with(forgotten))
}

/// A deletion has no value to be known by.
fn is_there(write: &Write, versions: &[Version]) -> bool {
    versions.iter().any(|version| match write.dot() {
        Some(dot) => version.dot == *dot,
        None => write.value.is_some() && version.value == write.value,
    })
}

/// Whether something that is there has seen it, or something that has been
/// forgotten or has ended since.
fn is_seen(write: &Write, dot: &Dot, versions: &[Version], written: &Written<'_>) -> bool {
    let collected = written.collected(&write.key);
    let ended = |other: &Write| other.may_end && other.fate != Fate::Refused && other.replaces(dot);
    versions.iter().any(|version| version.replaces(dot))
        || collected
            .iter()
            .any(|one| one.dot() == Some(dot) || one.replaces(dot))
        || written.of_key(&write.key).any(ended)
}

/// Whether it may be gone rightly, by a write of which nobody was told enough.
fn is_untold(write: &Write, versions: &[Version], written: &Written<'_>) -> bool {
    let is_gone = |other: &Write| {
        let is_untold = other.stamp.is_none();
        other.may_end && is_untold || written.may_be_collected(other)
    };
    if write.dot().is_some() {
        return followers(write, written).any(is_gone);
    }
    // of what one deletes, nothing has to be left
    let is_anything_left = !versions.is_empty() || !written.collected(&write.key).is_empty();
    let may_have_seen = |other: &Write| is_anything_left || other.may_end || is_gone(other);
    write.value.is_none() || followers(write, written).any(may_have_seen)
}

/// Other writes of the key that may have been done in sight of it.
fn followers<'m>(write: &Write, written: &Written<'m>) -> impl Iterator<Item = &'m Write> {
    written.of_key(&write.key).filter(move |other| {
        let is_before = other.end.is_some_and(|end| end < write.start);
        *other != write && other.fate != Fate::Refused && !is_before
    })
}
