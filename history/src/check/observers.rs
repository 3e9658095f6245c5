//! What watchers were told of each revision, and what they should have been.

use std::collections::BTreeMap;

use super::{Rule, Violation, agreement::is_told};
use crate::{
    model::Change,
    watching::{Filter, Kind, Message, Segment, Told, WatchLog},
};

/// All watchers of a board.
#[derive(Debug, Default)]
pub(super) struct Observers<'h> {
    connections: Vec<Connection<'h>>,
}

/// One connection of one watcher, and the revisions of which it was told
/// everything: those above `after`, up to `to`.
#[derive(Debug)]
struct Connection<'h> {
    log: &'h WatchLog,
    number: usize,
    after: u64,
    to: u64,
    messages: BTreeMap<u64, &'h Message>,
}

impl<'h> Observers<'h> {
    /// From logs whose messages are in order.
    pub(super) fn of(logs: &'h [WatchLog]) -> Self {
        let connections = logs.iter().flat_map(|log| {
            let segments = log.segments.iter().enumerate();
            segments.filter_map(move |(number, segment)| Connection::of(log, number, segment))
        });
        Self {
            connections: connections.collect(),
        }
    }

    /// The last revision that anybody was told of.
    pub(super) fn last(&self) -> u64 {
        let ends = self.connections.iter().map(|connection| connection.to);
        ends.max().unwrap_or(0)
    }

    /// The keys that have ended by themselves in this revision, where somebody
    /// was told all of it.
    pub(super) fn expired(&self, revision: u64) -> Option<Vec<&'h str>> {
        let mut all = self.connections.iter().filter(|connection| {
            connection.covers(revision) && connection.log.filter == Filter::Prefix(String::new())
        });
        let message = all.next()?.messages.get(&revision)?;
        let expired = message
            .changes
            .iter()
            .filter(|told| told.kind == Kind::Expire);
        Some(expired.map(|told| told.key.as_str()).collect())
    }

    /// Compares what was told of a revision with what it changed.
    ///
    /// # Errors
    /// The first watcher that was told something else.
    pub(super) fn agree(&self, revision: u64, changes: &[Change]) -> Result<(), Violation> {
        for connection in &self.connections {
            if connection.covers(revision) {
                connection.agrees(revision, changes)?;
            }
        }
        Ok(())
    }
}

impl<'h> Connection<'h> {
    /// `None` where it was told nothing.
    fn of(log: &'h WatchLog, number: usize, segment: &'h Segment) -> Option<Self> {
        let first = segment.messages.first()?.position.revision;
        let is_mark = segment.messages.first()?.changes.is_empty();
        let after = match segment.after {
            Some(after) => after.revision,
            None if is_mark => first,
            None => first.saturating_sub(1),
        };
        let changes = segment
            .messages
            .iter()
            .filter(|message| !message.changes.is_empty());
        Some(Self {
            log,
            number,
            after,
            to: segment.messages.last()?.position.revision,
            messages: changes
                .map(|message| (message.position.revision, message))
                .collect(),
        })
    }

    fn covers(&self, revision: u64) -> bool {
        self.after < revision && revision <= self.to
    }

    fn agrees(&self, revision: u64, changes: &[Change]) -> Result<(), Violation> {
        let wanted: Vec<&Change> = changes
            .iter()
            .filter(|change| self.log.filter.matches(&change.key))
            .collect();
        let message = self.messages.get(&revision);
        let told = message.map_or(&[][..], |message| &message.changes);
        let Some((rule, text)) = self.difference(revision, &wanted, told) else {
            return Ok(());
        };
        let text = format!(
            "watcher {}, connection {}, revision {revision}: {text}",
            self.log.name, self.number
        );
        let was_told = message.map_or("nothing".to_owned(), ToString::to_string);
        Err(Violation::new(rule, text).with([format!("told: {was_told}")]))
    }

    fn difference(
        &self,
        revision: u64,
        wanted: &[&Change],
        told: &[Told],
    ) -> Option<(Rule, String)> {
        if told.is_empty() {
            // right behind the position that it went on from
            let first = self.messages.keys().next();
            let is_resumed = self.number > 0 && first.is_none_or(|first| revision < *first);
            let rule = if is_resumed {
                Rule::Resumable
            } else {
                Rule::Reliable
            };
            let missing = wanted.first()?;
            return Some((rule, format!("a change of {:?} was not told", missing.key)));
        }
        for change in wanted {
            let Some(told) = told.iter().find(|told| told.key == change.key) else {
                return Some((Rule::Atomic, format!("a part is missing, {:?}", change.key)));
            };
            let after = change.after.as_ref();
            if change.kind != told.kind || !is_told(&change.key, after, told.entry.as_ref()) {
                return Some((Rule::WrongEvent, format!("not what happened: {told}")));
            }
            let before = change.before.as_ref();
            let is_wrong_revision = told
                .previous_revision
                .is_some_and(|revision| revision != before.map_or(0, |held| held.revision));
            let is_wrong = match (&told.previous, self.log.previous) {
                (None, false) => false,
                (previous, _) => !is_told(&change.key, before, previous.as_ref()),
            };
            if is_wrong || is_wrong_revision {
                return Some((Rule::Previous, format!("not what was there before: {told}")));
            }
        }
        let extra = told.iter().find(|told| {
            let mut keys = wanted.iter().map(|change| &change.key);
            !keys.any(|key| *key == told.key)
        })?;
        Some((Rule::WrongEvent, format!("not what happened: {extra}")))
    }
}
