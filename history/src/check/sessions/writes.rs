//! All writes of a board, in the order that their positions give them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

use super::read::{Range, Read};
use crate::{
    check::{
        Rule, Violation,
        written::{Write, possible_writes, writes},
    },
    operation::{Call, Entry, History, Operation, Outcome, Position},
};

/// By key.
#[derive(Debug, Default)]
pub(super) struct Writes<'h> {
    keys: BTreeMap<&'h str, KeyWrites<'h>>,
    /// Who made which position.
    made: BTreeMap<Position, &'h Operation>,
    epochs: BTreeSet<u64>,
    began: Position,
    clock_error: Duration,
}

/// Those of one key.
#[derive(Debug, Default)]
struct KeyWrites<'h> {
    acknowledged: BTreeMap<Position, Acknowledged<'h>>,
    unknown: Vec<(Write<'h>, &'h Operation)>,
    refused: Vec<(Write<'h>, &'h Operation)>,
    /// Of a revision, the lowest epoch of a board at which it was shown.
    shown: BTreeMap<u64, u64>,
}

/// A write that has a position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acknowledged<'h> {
    pub(super) write: Write<'h>,
    /// `None`: it was there before all calls.
    pub(super) by: Option<&'h Operation>,
}

impl<'h> Writes<'h> {
    /// All that a history tells of.
    ///
    /// # Errors
    /// Two calls with one position.
    pub(super) fn of(history: &'h History) -> Result<Self, Violation> {
        let mut this = Self {
            epochs: BTreeSet::from([history.began.epoch]),
            began: history.began,
            clock_error: history.clock_error,
            ..Self::default()
        };
        for entry in &history.entries {
            let value = Write::Value(entry.value.as_deref().unwrap_or_default());
            let write = if entry.is_lock { Write::Lock } else { value };
            let position = Position {
                epoch: history.began.epoch,
                revision: entry.revision,
            };
            let key = this.keys.entry(&entry.key).or_default();
            key.acknowledged
                .insert(position, Acknowledged { write, by: None });
        }
        for operation in &history.operations {
            this.add(operation)?;
        }
        for read in history.operations.iter().filter_map(Read::of) {
            this.note_epochs(&read);
        }
        Ok(this)
    }

    fn add(&mut self, operation: &'h Operation) -> Result<(), Violation> {
        match &operation.outcome {
            Outcome::Done(answer) if operation.made_revision().is_some() => {
                let position = answer.position();
                if let Some(other) = self.made.insert(position, operation) {
                    let text = format!("position {position} was told to two calls");
                    return Err(Violation::new(Rule::RevisionTwice, text).with([other, operation]));
                }
                self.epochs.insert(position.epoch);
                for (key, write) in writes(operation) {
                    let by = Some(operation);
                    let key = self.keys.entry(key).or_default();
                    key.acknowledged
                        .insert(position, Acknowledged { write, by });
                }
            }
            Outcome::Done(_) => {}
            Outcome::Refused(_) => {
                for (key, write) in possible_writes(operation) {
                    let key = self.keys.entry(key).or_default();
                    key.refused.push((write, operation));
                }
            }
            Outcome::Unknown => {
                for (key, write) in possible_writes(operation) {
                    let key = self.keys.entry(key).or_default();
                    key.unknown.push((write, operation));
                }
            }
        }
        Ok(())
    }

    fn note_epochs(&mut self, read: &Read<'h>) {
        let Some(position) = read.position else {
            return;
        };
        for entry in read.entries {
            let key = self.keys.entry(&entry.key).or_default();
            let epoch = key.shown.entry(entry.revision).or_insert(position.epoch);
            *epoch = position.epoch.min(*epoch);
        }
    }

    /// Where what was shown at a board's position was written. Its epoch is that
    /// of the write, where that was acknowledged; else the first in which anybody
    /// was shown it.
    pub(super) fn place(&self, entry: &Entry, board: Position) -> Position {
        let acknowledged = self.acknowledged_as(entry, board);
        let shown = || {
            let key = self.keys.get(entry.key.as_str());
            let epoch = key.and_then(|key| key.shown.get(&entry.revision));
            Position {
                epoch: epoch.copied().unwrap_or(board.epoch),
                revision: entry.revision,
            }
        };
        acknowledged.map_or_else(shown, |(position, _)| position)
    }

    /// The last acknowledged write of a key up to a position.
    pub(super) fn newest(&self, key: &str, by: Position) -> Option<(Position, Acknowledged<'h>)> {
        let mut until = self.keys.get(key)?.acknowledged.range(..=by);
        let (position, write) = until.next_back()?;
        Some((*position, *write))
    }

    /// Whether somebody can have written what a call was shown.
    ///
    /// # Errors
    /// Nobody did, or one who was told that it was not done.
    pub(super) fn explain(
        &self,
        entry: &Entry,
        board: Position,
        reader: &Operation,
    ) -> Result<(), Violation> {
        let ended = reader.end.unwrap_or(Duration::MAX);
        if let Some((_, found)) = self.acknowledged_as(entry, board) {
            return match found.by {
                Some(by) if by.start > ended => Err(Violation::new(
                    Rule::NeverWritten,
                    format!("{entry} was asked for only later"),
                )
                .with([by, reader])),
                _ => Ok(()),
            };
        }
        let position = Position {
            epoch: board.epoch,
            revision: entry.revision,
        };
        if let Some(other) = self.made.get(&position) {
            let text = format!("{position} is another write than {entry}");
            return Err(Violation::new(Rule::WrongAnswer, text).with([other, &reader]));
        }
        let key = self.keys.get(entry.key.as_str());
        let shows =
            |(write, by): &&(Write<'_>, &Operation)| write.is_shown(entry) && by.start <= ended;
        let mut unknown = key.into_iter().flat_map(|key| &key.unknown);
        if position > self.began && unknown.any(|write| shows(&write)) {
            return Ok(());
        }
        let mut refused = key.into_iter().flat_map(|key| &key.refused);
        if let Some((_, by)) = refused.find(shows) {
            let text = format!("{entry} was refused, and is there");
            return Err(Violation::new(Rule::RefusedSeen, text).with([by, &reader]));
        }
        let text = format!("nobody wrote {entry}");
        Err(Violation::new(Rule::NeverWritten, text).with([reader]))
    }

    /// Whether a key that was written at a position can be gone when a call is
    /// told that it is not there: by a deletion behind that, up to the board's
    /// position if it is told, by one of unknown outcome, or by its time.
    pub(super) fn can_have_ended(
        &self,
        key: &str,
        since: Position,
        board: Option<Position>,
        reader: &Operation,
    ) -> bool {
        let Some(writes) = self.keys.get(key) else {
            return false;
        };
        let ended = reader.end.unwrap_or(Duration::MAX);
        let is_end = |write: Write<'_>, by: &Operation| match write {
            Write::Gone => by.start <= ended,
            Write::Value(_) | Write::Lock => {
                ends(by).is_some_and(|ends| ends <= ended.saturating_add(self.clock_error))
            }
        };
        let to = board.map_or(Bound::Unbounded, Bound::Included);
        let own = writes.acknowledged.get(&since);
        let later = match board {
            Some(board) if board <= since => None,
            _ => Some(writes.acknowledged.range((Bound::Excluded(since), to))),
        };
        let later = later.into_iter().flatten().map(|(_, write)| write);
        let mut acknowledged = own.into_iter().chain(later);
        acknowledged.any(|one| one.by.is_some_and(|by| is_end(one.write, by)))
            || writes.unknown.iter().any(|(write, by)| is_end(*write, by))
    }

    /// Whether something in a key may end by itself.
    pub(super) fn may_end(&self, key: &str) -> bool {
        let Some(key) = self.keys.get(key) else {
            return false;
        };
        let acknowledged = key.acknowledged.values().filter_map(|write| write.by);
        let unknown = key.unknown.iter().map(|(_, by)| *by);
        acknowledged.chain(unknown).any(|by| ends(by).is_some())
    }

    /// Keys that are known, of those that a call has asked for.
    pub(super) fn keys_in<'r>(
        &'r self,
        range: &'r Range<'_>,
    ) -> impl Iterator<Item = &'h str> + 'r {
        let from = (Bound::Included(range.first()), Bound::Unbounded);
        let keys = self.keys.range::<str, _>(from).map(|(key, _)| *key);
        keys.take_while(|key| range.goes_to(key))
    }

    /// How many revisions of nobody who was told so were shown.
    ///
    /// # Errors
    /// A value at more revisions than it was asked to be written.
    pub(super) fn unknown_shown(&self, history: &'h History) -> Result<usize, Violation> {
        let mut shown: BTreeMap<(&str, &str), BTreeMap<u64, &Operation>> = BTreeMap::new();
        for operation in &history.operations {
            let Some(read) = Read::of(operation) else {
                continue;
            };
            let board = read.position.unwrap_or_default();
            let of_nobody = |entry: &&Entry| self.acknowledged_as(entry, board).is_none();
            for entry in read.entries.iter().filter(of_nobody) {
                if let Some(value) = &entry.value {
                    let revisions = shown.entry((&entry.key, value)).or_default();
                    revisions.entry(entry.revision).or_insert(operation);
                }
            }
        }
        for ((key, value), readers) in &shown {
            let asked = self.keys.get(key).map_or(0, |key| {
                let same = |(write, _): &&(Write<'_>, _)| *write == Write::Value(value);
                key.unknown.iter().filter(same).count()
            });
            if readers.len() > asked {
                let text = format!(
                    "{key:?} = {value} was written {} times and asked for {asked} times",
                    readers.len()
                );
                return Err(Violation::new(Rule::RevisionOfNobody, text).with(readers.values()));
            }
        }
        Ok(shown.values().map(BTreeMap::len).sum())
    }

    fn acknowledged_as(
        &self,
        entry: &Entry,
        board: Position,
    ) -> Option<(Position, Acknowledged<'h>)> {
        let key = self.keys.get(entry.key.as_str())?;
        let epochs = self.epochs.range(..=board.epoch).rev();
        let mut written = epochs.filter_map(|epoch| {
            let position = Position {
                epoch: *epoch,
                revision: entry.revision,
            };
            Some((position, *key.acknowledged.get(&position)?))
        });
        written.find(|(_, one)| one.write.is_shown(entry))
    }
}

/// When what a call writes may end by itself.
fn ends(operation: &Operation) -> Option<Duration> {
    match &operation.call {
        Call::Put { ttl, .. } => ttl.map(|ttl| operation.start + ttl),
        Call::Lock { ttl, .. } => Some(operation.start + *ttl),
        _ => None,
    }
}
