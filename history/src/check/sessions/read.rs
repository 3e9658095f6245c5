//! What a call showed of keys.

use crate::operation::{Answer, Call, Entry, Operation, Outcome, Position, Refusal};

/// Keys as a session was told of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'h> {
    /// Where the board stood; `None`: not told.
    pub(super) position: Option<Position>,
    /// What was there.
    pub(super) entries: &'h [Entry],
    /// Of which keys nothing else was there.
    pub(super) range: Range<'h>,
}

/// Keys that were asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Range<'h> {
    Key(&'h str),
    Page {
        prefix: &'h str,
        after: Option<&'h str>,
        /// The last that the page has come to; `None`: to the end.
        to: Option<&'h str>,
    },
}

impl<'h> Read<'h> {
    /// `None`: it showed nothing. Transactions and locks are of strong boards,
    /// and show nothing here.
    pub(super) fn of(operation: &'h Operation) -> Option<Self> {
        let key = match &operation.call {
            Call::Get { key } | Call::Delete { key, .. } => key,
            Call::List { prefix, after } => return Self::listed(operation, prefix, after.as_ref()),
            _ => return None,
        };
        let is_get = matches!(operation.call, Call::Get { .. });
        let (position, entries) = match &operation.outcome {
            Outcome::Done(Answer::Found { entry, position }) => {
                (Some(*position), std::slice::from_ref(entry))
            }
            Outcome::Done(
                Answer::Absent { position }
                | Answer::Deleted {
                    deleted: false,
                    position,
                    ..
                },
            ) => (Some(*position), &[][..]),
            Outcome::Refused(Refusal::NotFound) if is_get => (None, &[][..]),
            _ => return None,
        };
        Some(Self {
            position,
            entries,
            range: Range::Key(key),
        })
    }

    fn listed(
        operation: &'h Operation,
        prefix: &'h str,
        after: Option<&'h String>,
    ) -> Option<Self> {
        let Outcome::Done(Answer::Listed {
            entries,
            more,
            position,
        }) = &operation.outcome
        else {
            return None;
        };
        let last = entries.last().map_or("", |entry| entry.key.as_str());
        Some(Self {
            position: Some(*position),
            entries,
            range: Range::Page {
                prefix,
                after: after.map(String::as_str),
                to: more.then_some(last),
            },
        })
    }

    /// Whether it says that a key was not there.
    pub(super) fn lacks(&self, key: &str) -> bool {
        self.range.covers(key) && !self.entries.iter().any(|entry| entry.key == key)
    }
}

impl Range<'_> {
    /// No key that it covers comes before this one.
    pub(super) fn first(&self) -> &str {
        match self {
            Self::Key(key) => key,
            Self::Page { prefix, after, .. } => after.map_or(prefix, |after| after.max(prefix)),
        }
    }

    /// Whether a key may still be covered, as may those before it.
    pub(super) fn goes_to(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key <= *wanted,
            Self::Page { prefix, to, .. } => {
                key.starts_with(prefix) && to.is_none_or(|to| key <= to)
            }
        }
    }

    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key == *wanted,
            Self::Page { after, .. } => self.goes_to(key) && after.is_none_or(|after| key > after),
        }
    }
}
