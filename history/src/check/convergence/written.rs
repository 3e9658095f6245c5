//! All writes of a board whose replicas merge.

use std::collections::BTreeMap;

use crate::{
    check::{Rule, Violation},
    eventual::{Dot, Fate, Merged, Version, Write},
};

/// By dot, and by key.
#[derive(Debug, Default)]
pub(super) struct Written<'m> {
    dots: BTreeMap<&'m Dot, &'m Write>,
    keys: BTreeMap<&'m str, Vec<&'m Write>>,
    /// Deletions whose tombstones have been forgotten, by key.
    collected: BTreeMap<&'m str, Vec<&'m Write>>,
    /// Whether tombstones of deletions have been forgotten of whom nobody was told
    /// the dot.
    is_more_collected: bool,
}

impl<'m> Written<'m> {
    /// All of them.
    ///
    /// # Errors
    /// Two writes of one dot, or something other than a deletion that was
    /// forgotten.
    pub(super) fn of(merged: &'m Merged) -> Result<Self, Violation> {
        let mut this = Self::default();
        for write in &merged.writes {
            this.keys.entry(&write.key).or_default().push(write);
            let Some(dot) = write.dot() else { continue };
            if let Some(other) = this.dots.insert(dot, write) {
                let text = format!("two writes were told that they are {dot}");
                return Err(Violation::new(Rule::DotTwice, text).with([other, write]));
            }
        }
        for dot in &merged.collected {
            this.collect(dot)?;
        }
        Ok(this)
    }

    fn collect(&mut self, dot: &Dot) -> Result<(), Violation> {
        let Some(write) = self.dots.get(dot).copied() else {
            let mut all = self.keys.values().flatten();
            let may_be = |write: &&&Write| {
                let is_deletion = write.value.is_none() && write.stamp.is_none();
                write.may_end || is_deletion && write.fate != Fate::Refused
            };
            if all.any(|write| may_be(&write)) {
                self.is_more_collected = true;
                return Ok(());
            }
            let text = format!("the tombstone {dot} was forgotten, and nobody wrote it");
            return Err(Violation::new(Rule::NeverWritten, text));
        };
        if write.value.is_some() {
            let text = format!("{dot} was forgotten, and is no deletion");
            return Err(Violation::new(Rule::Lost, text).with([write]));
        }
        self.collected.entry(&write.key).or_default().push(write);
        Ok(())
    }

    /// All of a key.
    pub(super) fn of_key(&self, key: &str) -> impl Iterator<Item = &'m Write> {
        self.keys.get(key).into_iter().flatten().copied()
    }

    /// The deletions of a key whose tombstones have been forgotten.
    pub(super) fn collected(&self, key: &str) -> &[&'m Write] {
        self.collected.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether one of those may be of this write.
    pub(super) fn may_be_collected(&self, write: &Write) -> bool {
        let is_deletion = write.value.is_none() && write.stamp.is_none();
        self.is_more_collected && (is_deletion || write.may_end)
    }

    /// The acknowledged write of a key that is known to have seen another.
    pub(super) fn replacing(&self, key: &str, dot: &Dot) -> Option<&'m Write> {
        let collected = self.collected(key).iter().copied();
        let acknowledged = self
            .of_key(key)
            .filter(|write| write.fate == Fate::Acknowledged);
        acknowledged
            .chain(collected)
            .find(|write| write.replaces(dot))
    }

    /// Who wrote a version that a replica has of a key; `None`: nobody, its time
    /// has ended it.
    ///
    /// # Errors
    /// Nobody can have, or somebody who was refused, or it is not what he wrote.
    pub(super) fn writer(
        &self,
        replica: &str,
        key: &str,
        version: &Version,
    ) -> Result<Option<&'m Write>, Violation> {
        if let Some(write) = self.dots.get(&version.dot).copied() {
            return is_as_written(replica, key, version, write).map(|()| Some(write));
        }
        let same = |write: &&Write| write.stamp.is_none() && write.value == version.value;
        let (refused, done): (Vec<_>, Vec<_>) = self
            .of_key(key)
            .filter(same)
            .partition(|write| write.fate == Fate::Refused);
        if let Some(write) = done.first() {
            return Ok(Some(write));
        }
        if let Some(write) = refused.first() {
            let text = format!("replica {replica} has {version} in {key:?}, which was refused");
            return Err(Violation::new(Rule::RefusedSeen, text).with([write]));
        }
        let ended = |write: &'m Write| write.may_end && is_seen_by(write, version);
        if version.value.is_none() && self.of_key(key).any(ended) {
            return Ok(None);
        }
        let text = format!("replica {replica} has {version} in {key:?}, and nobody wrote it");
        Err(Violation::new(Rule::NeverWritten, text).with(self.of_key(key).take(12)))
    }
}

fn is_seen_by(write: &Write, version: &Version) -> bool {
    write.dot().is_none_or(|dot| version.replaces(dot))
}

fn is_as_written(
    replica: &str,
    key: &str,
    version: &Version,
    write: &Write,
) -> Result<(), Violation> {
    let fault = |rule, what: &str| {
        let text = format!("replica {replica} has {version} in {key:?}, {what}");
        Err(Violation::new(rule, text).with([write]))
    };
    if write.key != key || write.value != version.value {
        return fault(Rule::DotTwice, "which is the dot of another write");
    }
    if write.fate == Fate::Refused {
        return fault(Rule::RefusedSeen, "which was refused");
    }
    let clock = write.stamp.as_ref().map(|stamp| &stamp.clock);
    if clock.is_some_and(|clock| !clock.is_empty() && *clock != version.clock) {
        return fault(Rule::WrongAnswer, "and its writer was told another clock");
    }
    Ok(())
}
