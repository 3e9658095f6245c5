//! What clients ask of a board and what they are told, as the checks need it.

use std::time::Duration;

/// All that was asked of one board.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Where the board stood before all of it.
    pub began: Position,
    /// What was on it then; nothing that ends by itself.
    pub entries: Vec<Entry>,
    /// In the order in which they began.
    pub operations: Vec<Operation>,
    /// By how much an entry may end before its time: how coarse the server's
    /// clock and the recorder's are against each other.
    pub clock_error: Duration,
}

/// One call of one client, with all its repeats under the same request id.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Counts from 0 in the order of beginning.
    pub number: usize,
    /// Who called: one thread of the test, and one session, wherever it goes.
    pub client: String,
    /// For which agent; holds locks and stands in entries as their writer.
    pub agent: String,
    /// What was asked.
    pub call: Call,
    /// When it was sent first, on the recorder's clock.
    pub start: Duration,
    /// When its definite answer had come; `None`: never.
    pub end: Option<Duration>,
    /// What came of it.
    pub outcome: Outcome,
    /// What repeats of the same request id were told after that.
    pub repeats: Vec<Outcome>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Reads a key.
    Get {
        /// Which.
        key: String,
    },
    /// Writes a key.
    Put {
        /// Which.
        key: String,
        /// What, as text.
        value: String,
        /// Only at this revision of the key; 0: not there.
        if_revision: Option<u64>,
        /// Only while the agent holds this lock.
        if_lock: Option<LockHeld>,
        /// After which it may end by itself.
        ttl: Option<Duration>,
    },
    /// Deletes a key.
    Delete {
        /// Which.
        key: String,
        /// Only at this revision of the key.
        if_revision: Option<u64>,
        /// Only while the agent holds this lock.
        if_lock: Option<LockHeld>,
    },
    /// One page of the keys with a prefix.
    List {
        /// How they begin.
        prefix: String,
        /// Only keys after this one.
        after: Option<String>,
    },
    /// Compares, and does one list or the other.
    Transact {
        /// All have to hold.
        compare: Vec<Compare>,
        /// Done where they hold.
        then: Vec<Step>,
        /// Done where they do not.
        otherwise: Vec<Step>,
    },
    /// Takes, keeps or leaves a lock.
    Lock {
        /// What of these.
        act: Act,
        /// Which lock.
        key: String,
        /// After which it may end by itself; not for releasing.
        ttl: Duration,
        /// As it was told when it was taken; `None`: whatever the agent holds.
        fencing_revision: Option<u64>,
    },
}

/// A lock that has to be held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHeld {
    /// Its key.
    pub key: String,
    /// As it was told when it was taken.
    pub fencing_revision: u64,
}

/// What has to hold of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which.
    pub key: String,
    /// What.
    pub condition: Condition,
}

/// See [`Compare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The key's revision; 0: not there.
    Revision(u64),
    /// The agent holds it as a lock, with this fencing revision.
    Held(u64),
    /// The key's value, letter by letter.
    Value(String),
    /// Whether it is there.
    Exists(bool),
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// With which key.
    pub key: String,
    /// What.
    pub what: Do,
}

/// See [`Step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Writes it.
    Put(String),
    /// Deletes it.
    Delete,
    /// Reads it, as it was before the transaction.
    Get,
}

/// See [`Call::Lock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Takes it.
    Acquire,
    /// Keeps it.
    Renew,
    /// Leaves it.
    Release,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done(Answer),
    /// It was definitely not done.
    Refused(Refusal),
    /// Nobody knows, or it was never asked again.
    Unknown,
}

/// Where a board stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Counts promotions of the database.
    pub epoch: u64,
    /// Counts changes of the board.
    pub revision: u64,
}

/// What was done, as the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a get.
    Found {
        /// What is in the key.
        entry: Entry,
        /// The board's position.
        position: Position,
    },
    /// To a get, where the key is not there and the board's position is told.
    Absent {
        /// The board's position.
        position: Position,
    },
    /// To a put.
    Written {
        /// Its own revision.
        position: Position,
        /// The key's before; 0: not there.
        previous_revision: u64,
    },
    /// To a delete.
    Deleted {
        /// Whether there was something.
        deleted: bool,
        /// Its own revision, or the board's position.
        position: Position,
        /// The key's before; 0: not there.
        previous_revision: u64,
    },
    /// To a list.
    Listed {
        /// In order.
        entries: Vec<Entry>,
        /// Whether it goes on behind the last of them.
        more: bool,
        /// The board's position.
        position: Position,
    },
    /// To a transaction.
    Transacted {
        /// Whether the comparisons held.
        succeeded: bool,
        /// One for each step that was done.
        results: Vec<StepResult>,
        /// Its own revision, or the board's position.
        position: Position,
    },
    /// To the acts on locks.
    Locked {
        /// Whether the caller holds it now.
        held: bool,
        /// Of the lock that is, or was, held; 0: none.
        fencing_revision: u64,
        /// Who holds it; empty: nobody.
        holder: String,
        /// Its own revision, or the board's position.
        position: Position,
    },
}

/// What came of one step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    /// Of a get; `None`: not there.
    Got(Option<Entry>),
    /// Of a put or delete: the key's revision before; 0: not there.
    Changed(u64),
}

/// A definite no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The key is not there; see also [`Answer::Absent`].
    NotFound,
    /// A condition did not hold.
    Conflict,
    /// For a reason that says nothing of what is on the board.
    Other(String),
}

/// What is in a key, as a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub key: String,
    /// As text; `None`: not told, or a lock's.
    pub value: Option<String>,
    /// Which revision wrote it.
    pub revision: u64,
    /// Which revision made the key.
    pub created_revision: u64,
    /// The agent that wrote it; empty: not told.
    pub writer: String,
    /// Whether it is a lock.
    pub is_lock: bool,
}

impl Operation {
    /// The answer, where it was done.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Done(answer) => Some(answer),
            _ => None,
        }
    }

    /// The revision that it made, as it was told.
    pub fn made_revision(&self) -> Option<u64> {
        let answer = self.answer()?;
        answer
            .makes_a_revision(&self.call)
            .then(|| answer.position().revision)
    }

    /// Whether it could change something.
    pub fn is_mutating(&self) -> bool {
        !matches!(self.call, Call::Get { .. } | Call::List { .. })
    }
}

impl Answer {
    /// Where the board stood.
    pub fn position(&self) -> Position {
        match self {
            Self::Found { position, .. }
            | Self::Absent { position }
            | Self::Written { position, .. }
            | Self::Deleted { position, .. }
            | Self::Listed { position, .. }
            | Self::Transacted { position, .. }
            | Self::Locked { position, .. } => *position,
        }
    }

    /// Whether something has changed by this.
    pub(crate) fn makes_a_revision(&self, call: &Call) -> bool {
        match (self, call) {
            (Self::Written { .. }, _) => true,
            (Self::Deleted { deleted, .. }, _) => *deleted,
            (
                Self::Transacted {
                    succeeded, results, ..
                },
                Call::Transact {
                    then, otherwise, ..
                },
            ) => {
                let steps = if *succeeded { then } else { otherwise };
                steps
                    .iter()
                    .zip(results)
                    .any(|(step, result)| match step.what {
                        Do::Put(_) => true,
                        Do::Delete => *result != StepResult::Changed(0),
                        Do::Get => false,
                    })
            }
            (
                Self::Locked {
                    held,
                    fencing_revision,
                    holder,
                    ..
                },
                Call::Lock { act, .. },
            ) => match act {
                Act::Acquire | Act::Renew => *held,
                Act::Release => *fencing_revision != 0 && holder.is_empty(),
            },
            _ => false,
        }
    }
}
