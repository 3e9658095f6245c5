//! What can be done to a board, and what comes of it.

use std::collections::HashSet;

use authguardian_proto::{
    board::{Key, MAX_LOCK_SECONDS, MAX_OPERATIONS, MAX_TRANSACTION_BYTES, MAX_TTL_SECONDS},
    crdt::{Actor, Version, Write},
    ids::AgentId,
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;

use crate::{
    blackboard::entry::{Entry, Value},
    error::{Error, Result},
};

/// Seconds until something ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Ttl(u64);

impl Ttl {
    /// Of an entry.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub fn of_entry(field: &str, seconds: u64) -> Result<Self> {
        Self::within(field, seconds, MAX_TTL_SECONDS.into())
    }

    /// Of a lock.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub fn of_lock(field: &str, seconds: u64) -> Result<Self> {
        Self::within(field, seconds, MAX_LOCK_SECONDS.into())
    }

    fn within(field: &str, seconds: u64, most: u64) -> Result<Self> {
        if (1..=most).contains(&seconds) {
            return Ok(Self(seconds));
        }
        Err(Error::invalid(field, format!("expected 1 to {most}")))
    }

    /// When it ends, from `now` on.
    pub(super) fn end(self, now: OffsetDateTime) -> OffsetDateTime {
        now + std::time::Duration::from_secs(self.0)
    }
}

/// A lock that the caller has to hold still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockHeld {
    /// Which.
    pub key: Key,
    /// As it was told when the lock was taken.
    pub fencing_revision: i64,
}

/// Something to be done to a board.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Writes a key or deletes it.
    Deed {
        /// Which.
        key: Key,
        /// What.
        deed: Deed,
        /// Only where the key has this revision; 0: only where it is not there.
        if_revision: Option<i64>,
        /// Only while this is held.
        if_lock: Option<LockHeld>,
    },
    /// Compares, and does one list or the other.
    Transact {
        /// All of these have to hold.
        compare: Vec<Compare>,
        /// Done where they hold.
        then: Vec<Operation>,
        /// Done where they do not.
        otherwise: Vec<Operation>,
    },
    /// Takes, keeps or leaves a lock.
    Lock {
        /// Which.
        key: Key,
        /// What with it.
        act: LockAct,
    },
    /// Ends what has come to its end.
    Expire {
        /// These, where it is so.
        keys: Vec<Key>,
    },
    /// Takes writes of a replica, each once.
    Merge {
        /// Whose.
        actor: Actor,
        /// Of the database that the replica was opened with.
        epoch: i64,
        /// In the order of their counters.
        writes: Vec<MergedWrite>,
    },
}

/// A write of a replica.
#[derive(Debug, Clone)]
pub struct MergedWrite {
    /// Of which key.
    pub key: Key,
    /// What.
    pub version: Version<Write>,
    /// On whose behalf.
    pub agent: AgentId,
}

impl Serialize for MergedWrite {
    /// Which write it is; that it is the same one is known by its counter.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.version.dot.serialize(serializer)
    }
}

/// A write of a replica that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedWrite {
    /// Of which key.
    pub key: Key,
    /// The how-manyth of its replica.
    pub counter: u64,
    /// Why not.
    pub problem: Problem,
}

/// What is done to one key.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Written.
    Put {
        /// This.
        value: Value,
        /// For so long; `None`: as the board says.
        ttl: Option<Ttl>,
    },
    /// Deleted, if it is there.
    Delete,
}

/// What has to hold of a key.
#[derive(Debug, Clone, Serialize)]
pub struct Compare {
    /// Which.
    pub key: Key,
    /// What.
    pub condition: Condition,
}

/// See [`Compare`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Its revision; 0: it is not there.
    Revision(i64),
    /// The caller holds it as a lock with this fencing revision.
    Fencing(i64),
    /// It says this.
    Value(Value),
    /// It is there, or not.
    Exists(bool),
}

/// A part of a transaction.
#[derive(Debug, Clone, Serialize)]
pub struct Operation {
    /// With which key.
    pub key: Key,
    /// What with it; `None`: it is read.
    pub deed: Option<Deed>,
}

/// What is done with a lock.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LockAct {
    /// Taken, if nobody has it.
    Acquire(Ttl),
    /// Kept for so long from now; `fencing`: only this holding of it.
    #[expect(missing_docs, reason = "said above")]
    Renew { ttl: Ttl, fencing: Option<i64> },
    /// Left.
    #[expect(missing_docs, reason = "as of Renew")]
    Release { fencing: Option<i64> },
}

/// What came of an act; kept for repeats of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Of a key that was written.
    Put {
        /// Its revision before; 0: it was not there.
        previous_revision: i64,
        /// When it ends by itself.
        #[serde(with = "time::serde::rfc3339::option")]
        expires_at: Option<OffsetDateTime>,
    },
    /// Of a key that was to be deleted.
    Delete {
        /// Its revision before; 0: it was not there.
        previous_revision: i64,
    },
    /// Of a transaction.
    Transact {
        /// Whether the comparisons held.
        succeeded: bool,
        /// Of each operation that was done.
        performed: Vec<Performed>,
    },
    /// Of a lock.
    Lock {
        /// Whether the caller holds it.
        held: bool,
        /// Of the lock that is, or was, held; 0: there is none.
        fencing_revision: i64,
        /// When it ends by itself, where it is held by anybody.
        #[serde(with = "time::serde::rfc3339::option")]
        expires_at: Option<OffsetDateTime>,
        /// Who holds it; empty: nobody.
        holder: String,
    },
    /// Of a sweep.
    Expire {
        /// How many came to their end.
        ended: u64,
    },
    /// Of writes of a replica.
    #[serde(skip)]
    Merge {
        /// What changed something, and on whose behalf.
        merged: Vec<(Key, AgentId)>,
        /// What was not taken.
        refused: Vec<RefusedWrite>,
    },
}

/// What came of a part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Performed {
    /// With which key.
    pub key: Key,
    /// What was read.
    pub entry: Option<Entry>,
    /// Of what was written: its revision before; 0: it was not there.
    pub previous_revision: i64,
}

impl Act {
    /// Whether it is within its bounds.
    pub(super) fn check(&self) -> Result<()> {
        let Self::Transact {
            compare,
            then,
            otherwise,
        } = self
        else {
            return Ok(());
        };
        let counts = [
            ("compare", compare.len()),
            ("then", then.len()),
            ("else", otherwise.len()),
        ];
        for (field, count) in counts {
            if count > MAX_OPERATIONS {
                let detail = format!("expected at most {MAX_OPERATIONS}");
                return Err(Error::invalid(field, detail));
            }
        }
        for (field, operations) in [("then", then), ("else", otherwise)] {
            check_distinct(field, operations)?;
        }
        let compared = compare.iter().map(|compare| {
            compare.key.as_str().len()
                + match &compare.condition {
                    Condition::Value(value) => value.as_str().len(),
                    _ => 0,
                }
        });
        let operations = then.iter().chain(otherwise).map(|operation| {
            operation.key.as_str().len()
                + match &operation.deed {
                    Some(Deed::Put { value, .. }) => value.as_str().len(),
                    _ => 0,
                }
        });
        if compared.chain(operations).sum::<usize>() > MAX_TRANSACTION_BYTES {
            return Err(Problem::new(
                Reason::TooLarge,
                format!(
                    "expected at most {MAX_TRANSACTION_BYTES} bytes of keys and values together"
                ),
            )
            .at("then")
            .into());
        }
        Ok(())
    }

    /// Every key that it reads or writes, and whether its value is needed.
    pub(super) fn keys(&self) -> Vec<(&Key, bool)> {
        match self {
            Self::Deed { key, if_lock, .. } => {
                let lock = if_lock.iter().map(|lock| (&lock.key, false));
                std::iter::once((key, false)).chain(lock).collect()
            }
            Self::Lock { key, .. } => vec![(key, false)],
            Self::Expire { keys } => keys.iter().map(|key| (key, false)).collect(),
            Self::Merge { writes, .. } => writes.iter().map(|write| (&write.key, false)).collect(),
            Self::Transact {
                compare,
                then,
                otherwise,
            } => {
                let compared = compare.iter().map(|compare| {
                    let with_value = matches!(compare.condition, Condition::Value(_));
                    (&compare.key, with_value)
                });
                let operations = then.iter().chain(otherwise);
                let operations =
                    operations.map(|operation| (&operation.key, operation.deed.is_none()));
                compared.chain(operations).collect()
            }
        }
    }

    /// What it is called in the audit log.
    pub(super) const fn action(&self) -> &'static str {
        match self {
            Self::Deed {
                deed: Deed::Put { .. },
                ..
            } => "blackboard.write",
            Self::Deed { .. } => "blackboard.delete",
            Self::Transact { .. } => "blackboard.transaction",
            Self::Lock { act, .. } => match act {
                LockAct::Acquire(_) => "lock.acquire",
                LockAct::Renew { .. } => "lock.renew",
                LockAct::Release { .. } => "lock.release",
            },
            Self::Expire { .. } => "blackboard.expire",
            Self::Merge { .. } => "blackboard.merge",
        }
    }
}

/// A key is written once at most, so that it has one revision.
fn check_distinct(field: &str, operations: &[Operation]) -> Result<()> {
    let mut written = HashSet::new();
    for (at, operation) in operations.iter().enumerate() {
        if operation.deed.is_some() && !written.insert(&operation.key) {
            return Err(Error::invalid(
                &format!("{field}[{at}].key"),
                "expected a key that no other operation of the list writes",
            ));
        }
    }
    Ok(())
}
