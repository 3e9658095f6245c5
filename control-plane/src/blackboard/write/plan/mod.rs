//! What a batch has locked, in memory: acts are done here, one after another,
//! and what has changed is written as a whole.

mod lock;
mod version;

use std::collections::{BTreeMap, HashMap, HashSet};

use authguardian_proto::{
    board::{Key, Level, MAX_TRANSACTION_BYTES},
    crdt::{Actor, Dot, Siblings, Write},
    ids::{AgentId, BoardName},
    reason::{Problem, Reason},
};
use time::OffsetDateTime;

use super::act::{Act, Compare, Condition, Deed, LockHeld, Operation, Outcome, Performed, Ttl};
use crate::{
    blackboard::{
        access::{Writer, check_level},
        board::Board,
        entry::{Change, ChangeKind, Entry, Value},
    },
    error::{Error, Result},
};

/// A key of a board.
pub(in crate::blackboard) type Place = (BoardName, Key);

/// The boards of a batch, and those of their keys that it touches.
#[derive(Debug)]
pub(in crate::blackboard) struct Plan {
    pub(in crate::blackboard) boards: BTreeMap<BoardName, Board>,
    entries: HashMap<Place, Known>,
    /// Keys as they are to be; `None`: gone.
    pub(in crate::blackboard) written: BTreeMap<Place, Option<Entry>>,
    /// Each with its board and its number in its revision.
    pub(in crate::blackboard) changes: Vec<(BoardName, i16, Change)>,
    /// Of keys of eventual boards, as they are to be.
    siblings: HashMap<Place, Siblings<Write>>,
    /// As they were.
    before: HashMap<Place, HashSet<Dot>>,
    /// At which revision the batch has taken a version.
    taken_at: HashMap<(Place, Dot), i64>,
    /// How many writes of each replica a board had had.
    received: BTreeMap<(BoardName, Actor), u64>,
    /// How many it has had now.
    pub(in crate::blackboard) heard: BTreeMap<(BoardName, Actor), u64>,
    now: OffsetDateTime,
}

/// What a batch's acts find.
#[derive(Debug, Default)]
pub(super) struct FoundState {
    /// Entries of the batch's keys that there are.
    pub(super) entries: HashMap<Place, Known>,
    /// Versions of those on eventual boards.
    pub(super) siblings: HashMap<Place, Siblings<Write>>,
    /// How many writes of each replica a board has had.
    pub(super) received: BTreeMap<(BoardName, Actor), u64>,
}

/// An entry, and how many bytes key and value have.
#[derive(Debug, Clone)]
pub(in crate::blackboard) struct Known {
    /// Its value may be left out.
    pub(in crate::blackboard) entry: Entry,
    pub(in crate::blackboard) bytes: u64,
}

/// A change that an act makes, not yet at its place.
struct Step {
    key: Key,
    kind: ChangeKind,
    /// `None`: it is gone.
    value: Option<Value>,
    is_lock: bool,
    /// Whether the key goes on as what it was made.
    goes_on: bool,
    expires_at: Option<OffsetDateTime>,
}

impl Plan {
    /// `now` is the database's.
    pub(super) fn new(
        boards: BTreeMap<BoardName, Board>,
        found: FoundState,
        now: OffsetDateTime,
    ) -> Self {
        let before = found.siblings.iter();
        Self {
            boards,
            before: before
                .map(|(place, siblings)| (place.clone(), version::dots(siblings)))
                .collect(),
            entries: found.entries,
            siblings: found.siblings,
            received: found.received,
            written: BTreeMap::new(),
            changes: Vec::new(),
            taken_at: HashMap::new(),
            heard: BTreeMap::new(),
            now,
        }
    }

    /// Does an act as a whole, or not at all; of a merge what `lets` does not refuse
    /// to its agent.
    ///
    /// # Errors
    /// `UNSUPPORTED_FOR_LEVEL`, `REVISION_CONFLICT`, `RESOURCE_EXHAUSTED`.
    pub(super) fn perform(
        &mut self,
        name: &BoardName,
        act: &Act,
        writer: &Writer,
        lets: impl Fn(&AgentId) -> Result<()>,
    ) -> Result<Outcome> {
        match act {
            Act::Merge {
                actor,
                epoch,
                writes,
            } => {
                self.check_epoch(name, *epoch)?;
                self.merge(name, *actor, writes, lets)
            }
            Act::Deed {
                key,
                deed,
                if_revision,
                if_lock,
            } => self.deed(name, key, deed, *if_revision, if_lock.as_ref(), writer),
            Act::Transact {
                compare,
                then,
                otherwise,
            } => self.transact(name, compare, then, otherwise, writer),
            Act::Lock { key, act } => self.lock(name, key, *act, writer),
            Act::Expire { keys } => self.expire(name, keys, writer),
        }
    }

    /// What a board is now.
    pub(super) fn board(&self, name: &BoardName) -> Result<&Board> {
        self.boards
            .get(name)
            .ok_or_else(|| Error::internal("a board was not locked"))
    }

    fn entry(&self, name: &BoardName, key: &Key) -> Option<&Entry> {
        self.known(name, key).map(|known| &known.entry)
    }

    fn known(&self, name: &BoardName, key: &Key) -> Option<&Known> {
        self.entries.get(&(name.clone(), key.clone()))
    }

    fn revision(&self, name: &BoardName, key: &Key) -> i64 {
        self.entry(name, key).map_or(0, |entry| entry.revision)
    }

    fn deed(
        &mut self,
        name: &BoardName,
        key: &Key,
        deed: &Deed,
        if_revision: Option<i64>,
        if_lock: Option<&LockHeld>,
        writer: &Writer,
    ) -> Result<Outcome> {
        let board = self.board(name)?;
        if if_revision.is_some() {
            check_level(board, Level::Session, "`if_revision` cannot be kept")?;
        }
        if let Some(lock) = if_lock {
            check_level(board, Level::Strong, "there are no locks")?;
            self.check_lock(name, lock, writer)?;
        }
        let previous_revision = self.revision(name, key);
        if if_revision.is_some_and(|wanted| wanted != previous_revision) {
            return Err(conflict("key", moved(key, previous_revision)));
        }
        self.check_no_lock(name, key, "key")?;
        let step = self.step(name, key, deed);
        let expires_at = step.as_ref().and_then(|step| step.expires_at);
        self.write(name, step.into_iter().collect(), writer)?;
        Ok(match deed {
            Deed::Put { .. } => Outcome::Put {
                previous_revision,
                expires_at,
            },
            Deed::Delete => Outcome::Delete { previous_revision },
        })
    }

    fn transact(
        &mut self,
        name: &BoardName,
        compare: &[Compare],
        then: &[Operation],
        otherwise: &[Operation],
        writer: &Writer,
    ) -> Result<Outcome> {
        check_level(
            self.board(name)?,
            Level::Strong,
            "there are no transactions",
        )?;
        let succeeded = compare
            .iter()
            .all(|compare| self.holds(name, compare, writer));
        let (field, operations) = if succeeded {
            ("then", then)
        } else {
            ("else", otherwise)
        };
        self.check_fetched(name, field, operations)?;
        let (mut performed, mut steps) = (Vec::with_capacity(operations.len()), Vec::new());
        for (at, Operation { key, deed }) in operations.iter().enumerate() {
            if let Some(deed) = deed {
                self.check_no_lock(name, key, &format!("{field}[{at}].key"))?;
                steps.extend(self.step(name, key, deed));
            }
            let read = deed.is_none().then(|| self.entry(name, key).cloned());
            performed.push(Performed {
                key: key.clone(),
                entry: read.flatten(),
                previous_revision: if deed.is_some() {
                    self.revision(name, key)
                } else {
                    0
                },
            });
        }
        self.write(name, steps, writer)?;
        Ok(Outcome::Transact {
            succeeded,
            performed,
        })
    }

    /// What is read has to fit into one answer.
    fn check_fetched(&self, name: &BoardName, field: &str, operations: &[Operation]) -> Result<()> {
        let fetched = operations
            .iter()
            .filter(|operation| operation.deed.is_none())
            .filter_map(|operation| self.known(name, &operation.key));
        if fetched.map(|known| known.bytes).sum::<u64>() <= MAX_TRANSACTION_BYTES as u64 {
            return Ok(());
        }
        let detail =
            format!("expected to read at most {MAX_TRANSACTION_BYTES} bytes of keys and values");
        Err(Problem::new(Reason::TooLarge, detail).at(field).into())
    }

    fn holds(&self, name: &BoardName, compare: &Compare, writer: &Writer) -> bool {
        let entry = self.entry(name, &compare.key);
        match &compare.condition {
            Condition::Revision(wanted) => entry.map_or(0, |entry| entry.revision) == *wanted,
            Condition::Fencing(fencing) => {
                entry.is_some_and(|entry| self.is_held(entry, writer, Some(*fencing)))
            }
            Condition::Value(wanted) => entry
                .and_then(|entry| entry.value.as_ref())
                .is_some_and(|value| value.says_the_same(wanted)),
            Condition::Exists(wanted) => entry.is_some() == *wanted,
        }
    }

    fn is_over(&self, entry: &Entry) -> bool {
        entry.expires_at.is_some_and(|end| end <= self.now)
    }

    fn expire(&mut self, name: &BoardName, keys: &[Key], writer: &Writer) -> Result<Outcome> {
        let over = |key: &&Key| {
            self.entry(name, key)
                .is_some_and(|entry| self.is_over(entry))
        };
        let over: Vec<Key> = keys.iter().filter(over).cloned().collect();
        let ended = over.len() as u64;
        for key in over {
            self.write(name, vec![Step::gone(&key, ChangeKind::Expire)], writer)?;
        }
        Ok(Outcome::Expire { ended })
    }

    /// What a deed changes; deleting what is not there changes nothing.
    fn step(&self, name: &BoardName, key: &Key, deed: &Deed) -> Option<Step> {
        match deed {
            Deed::Put { value, ttl } => {
                let usual = self
                    .boards
                    .get(name)
                    .map_or(0, |board| board.terms.default_ttl_seconds);
                let usual = Ttl::of_entry("ttl_seconds", usual).ok();
                Some(Step {
                    key: key.clone(),
                    kind: ChangeKind::Put,
                    value: Some(value.clone()),
                    is_lock: false,
                    goes_on: true,
                    expires_at: ttl.or(usual).map(|ttl| ttl.end(self.now)),
                })
            }
            Deed::Delete => self
                .entry(name, key)
                .map(|_| Step::gone(key, ChangeKind::Delete)),
        }
    }

    /// Makes one revision of all steps, if there are any and they fit.
    fn write(&mut self, name: &BoardName, steps: Vec<Step>, writer: &Writer) -> Result<()> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut board = self.board(name)?.clone();
        if board.level == Level::Eventual {
            return self.write_versions(name, steps, writer);
        }
        board.position.revision += 1;
        let revision = board.position.revision;
        let mut made = Vec::with_capacity(steps.len());
        for step in steps {
            let before = self.known(name, &step.key);
            let entry = Entry {
                created_revision: before
                    .filter(|_| step.goes_on)
                    .map_or(revision, |before| before.entry.created_revision),
                revision,
                is_lock: step.is_lock,
                writer: writer.name.clone(),
                machine_id: writer.machine,
                grant_id: writer.grant,
                written_at: self.now,
                expires_at: step.expires_at,
                value: step.value,
                key: step.key,
            };
            let gone = before.map_or(0, |before| before.bytes);
            let come = bytes(&entry);
            let (was, is) = (u64::from(before.is_some()), u64::from(come > 0));
            board.keys = (board.keys + is).saturating_sub(was);
            board.bytes = (board.bytes + come).saturating_sub(gone);
            let change = Change {
                kind: step.kind,
                previous_revision: before.map_or(0, |before| before.entry.revision),
                entry,
                previous: None,
            };
            made.push(change);
        }
        self.check_quota(name, &board)?;
        self.boards.insert(name.clone(), board);
        for (number, change) in made.into_iter().enumerate() {
            let number = i16::try_from(number).map_err(Error::internal)?;
            self.put_in_place(name, number, change);
        }
        Ok(())
    }

    fn put_in_place(&mut self, name: &BoardName, number: i16, change: Change) {
        let place = (name.clone(), change.entry.key.clone());
        if change.kind == ChangeKind::Put {
            let known = Known {
                bytes: bytes(&change.entry),
                entry: change.entry.clone(),
            };
            self.entries.insert(place.clone(), known);
            self.written.insert(place, Some(change.entry.clone()));
        } else {
            self.entries.remove(&place);
            self.written.insert(place, None);
        }
        self.changes.push((name.clone(), number, change));
    }

    /// What makes a full board fuller is refused; what empties it is not.
    fn check_quota(&self, name: &BoardName, after: &Board) -> Result<()> {
        let before = self.board(name)?;
        let (keys, bytes) = (after.terms.max_keys, after.terms.max_bytes);
        let full = |what: &str, most: u64| {
            let detail = format!("board `{name}` may have {most} {what}, and no more");
            Err(Error::new(Reason::ResourceExhausted, detail))
        };
        if after.keys > keys && after.keys > before.keys {
            return full("keys", keys);
        }
        if after.bytes > bytes && after.bytes > before.bytes {
            return full("bytes", bytes);
        }
        Ok(())
    }
}

impl Step {
    fn gone(key: &Key, kind: ChangeKind) -> Self {
        Self {
            key: key.clone(),
            kind,
            value: None,
            is_lock: false,
            goes_on: true,
            expires_at: None,
        }
    }
}

/// How much an entry counts; 0: it is gone.
fn bytes(entry: &Entry) -> u64 {
    entry.value.as_ref().map_or(0, |value| {
        (entry.key.as_str().len() + value.as_str().len()) as u64
    })
}

fn conflict(field: &str, detail: String) -> Error {
    Problem::new(Reason::RevisionConflict, detail)
        .at(field)
        .into()
}

fn moved(key: &Key, revision: i64) -> String {
    if revision == 0 {
        format!("`{key}` is not there")
    } else {
        format!("`{key}` has revision {revision}")
    }
}
