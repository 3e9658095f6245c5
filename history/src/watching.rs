//! What watchers were told.

use std::fmt;

use crate::operation::{Entry, Position};

/// All that one watcher was told, over all its connections.
#[derive(Debug, Clone)]
pub struct WatchLog {
    /// Whose.
    pub name: String,
    /// What it asked for.
    pub filter: Filter,
    /// Whether it asked for what was there before each change.
    pub previous: bool,
    /// One for each connection, in order.
    pub segments: Vec<Segment>,
}

/// What a watcher asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One key.
    Key(String),
    /// Keys that begin so; empty: all.
    Prefix(String),
}

/// What came over one connection.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    /// It was to begin behind this; `None`: from then on.
    pub after: Option<Position>,
    /// In the order in which they came.
    pub messages: Vec<Message>,
}

/// The changes of one revision, or a mark that all up to here has been sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The revision of the changes, or of the mark.
    pub position: Position,
    /// Empty: a mark.
    pub changes: Vec<Told>,
}

/// What happened to a key, as a watcher was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How.
    pub kind: Kind,
    /// Which key.
    pub key: String,
    /// What was written; `None`: nothing, or it is gone.
    pub entry: Option<Entry>,
    /// What was there before; `None`: nothing, or not asked for.
    pub previous: Option<Entry>,
    /// The key's revision before; 0: it was not there; `None`: not told.
    pub previous_revision: Option<u64>,
}

/// How a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Written.
    Put,
    /// Deleted.
    Delete,
    /// Ended by itself.
    Expire,
}

impl Filter {
    /// Whether a key is asked for.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::Key(wanted) => key == wanted,
            Self::Prefix(prefix) => key.starts_with(prefix),
        }
    }
}

impl WatchLog {
    /// Where it got to; `None`: nothing was told.
    pub fn position(&self) -> Option<Position> {
        let messages = self.segments.iter().flat_map(|segment| &segment.messages);
        messages.map(|message| message.position).next_back()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return write!(f, "{} mark", self.position);
        }
        write!(f, "{}", self.position)?;
        for change in &self.changes {
            write!(f, " {change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.kind, self.key)?;
        if let Some(entry) = &self.entry {
            write!(f, " {entry}")?;
        }
        if let Some(previous) = &self.previous {
            write!(f, " (was {previous})")?;
        }
        if let Some(revision) = self.previous_revision {
            write!(f, " (was revision {revision})")?;
        }
        Ok(())
    }
}
