//! The file: its tables, opening it, and what is read from it.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use authguardian_proto::{
    board::Key,
    common::v1::Position,
    ids::{BoardName, MachineId},
};
use prost::Message;
#[cfg(not(test))]
use redb::backends::FileBackend as Backend;
use redb::{Builder, Database, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use uuid::Uuid;

#[cfg(test)]
use super::tests::disk::Backend;
use super::{
    actor::{Life, Lives},
    board::{BoardState, Counts, StoredBoard},
    error::{OpenError, Result, corrupted},
    record::Record,
};
use crate::clock::Ambient;

/// Its name in the directory.
pub(super) const FILE: &str = "replica.redb";

type Bytes = &'static [u8];

/// `board NUL key` → its record.
pub(super) const KEYS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("keys");
/// `board NUL revision` → the key that the replica's revision changed last; for watches.
pub(super) const REVISIONS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("revisions");
/// Sequence → incarnation, counter and write; the oldest first.
pub(super) const OUTGOING: TableDefinition<'_, u64, Bytes> = TableDefinition::new("outgoing");
/// `board NUL key`, of keys with more than one value.
pub(super) const CONFLICTS: TableDefinition<'_, Bytes, ()> = TableDefinition::new("conflicts");
/// `board NUL kind revision key`, of keys that can be forgotten after that revision.
pub(super) const ENDED: TableDefinition<'_, Bytes, ()> = TableDefinition::new("ended");
/// `meta`, `board NUL name` and `counts NUL name`.
pub(super) const STATE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("state");

pub(super) const META_ROW: &[u8] = b"meta";
const BOARD_ROWS: &[u8] = b"board\0";
const COUNT_ROWS: &[u8] = b"counts\0";

/// Sequences begin here, so that what the control plane has lost finds room before them.
pub(super) const FIRST_SEQUENCE: u64 = 1 << 40;

pub(super) type Boards = BTreeMap<BoardName, Arc<BoardState>>;

/// What is known beside keys and outgoing writes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    /// Of the replica's revisions; random, so that no two replicas share one.
    pub(super) epoch: u64,
    /// The last of them.
    pub(super) head: u64,
    /// Of the last outgoing write.
    pub(super) sequence: u64,
    /// Of the last write or merge, as a hybrid clock's number.
    pub(super) time: u64,
    /// Bytes of the rows of keys and outgoing writes.
    pub(super) payload: u64,
    pub(super) lives: Lives,
    pub(super) boards: Arc<Boards>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMeta {
    #[prost(bytes = "vec", tag = "1")]
    machine: Vec<u8>,
    #[prost(uint64, tag = "2")]
    epoch: u64,
    #[prost(uint64, tag = "3")]
    head: u64,
    #[prost(uint64, tag = "4")]
    sequence: u64,
    #[prost(uint64, tag = "5")]
    time: u64,
    #[prost(uint64, tag = "6")]
    payload: u64,
    #[prost(uint32, tag = "7")]
    confirmed: u32,
    #[prost(message, repeated, tag = "8")]
    lives: Vec<Life>,
}

/// Where a replica is, and whose it is.
pub(super) struct Home {
    pub(super) dir: PathBuf,
    pub(super) machine: MachineId,
    pub(super) cache_bytes: usize,
    pub(super) ambient: Ambient,
}

/// The open file.
pub(super) struct Store {
    pub(super) database: Database,
    /// Another handle on it, to ask how large it is.
    file: File,
}

/// All as of one commit. Holding one keeps the file from using again what it shows, so it
/// is held briefly.
pub(super) struct Snapshot {
    pub(super) keys: ReadOnlyTable<Bytes, Bytes>,
    pub(super) revisions: ReadOnlyTable<Bytes, Bytes>,
    pub(super) outgoing: ReadOnlyTable<u64, Bytes>,
    pub(super) conflicts: ReadOnlyTable<Bytes, ()>,
    pub(super) state: State,
}

impl Home {
    /// Opens the replica, or makes one.
    pub(super) fn open(&self) -> Result<(Store, State), OpenError> {
        let path = self.dir.join(FILE);
        let io = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        // what redb makes itself, all may read
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(&path).map_err(io)?;
        // its name lasts as what is in it does
        let dir = File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(io)?;
        let handle = file.try_clone().map_err(io)?;
        // what was damaged after it was written may make redb panic
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut builder = Builder::new();
            let backend = Backend::new(handle)?;
            let database = builder
                .set_cache_size(self.cache_bytes)
                .create_with_backend(backend)?;
            let state = load(&database, self.machine, &self.ambient)?;
            Ok((database, state))
        }));
        let opened = opened.unwrap_or_else(|_| Err(corrupted("a file that was not damaged")));
        let (database, state) = opened.map_err(|error| refused(&path, error))?;
        if state.lives.machine != self.machine {
            let machine = state.lives.machine;
            return Err(OpenError::OtherMachine { path, machine });
        }
        Ok((Store { database, file }, state))
    }

    /// What redb says of its file.
    pub(super) fn refused(&self, error: redb::Error) -> OpenError {
        refused(&self.dir.join(FILE), error)
    }
}

impl Store {
    /// All as of now.
    pub(super) fn snapshot(&self, state: State) -> Result<Snapshot> {
        let read = self.database.begin_read()?;
        Ok(Snapshot {
            keys: read.open_table(KEYS)?,
            revisions: read.open_table(REVISIONS)?,
            outgoing: read.open_table(OUTGOING)?,
            conflicts: read.open_table(CONFLICTS)?,
            state,
        })
    }

    /// How many bytes it has on disk.
    pub(super) fn bytes(&self) -> u64 {
        let metadata = self.file.metadata();
        metadata.map_or(0, |metadata| metadata.blocks() * 512)
    }
}

impl Snapshot {
    pub(super) fn board(&self, name: &BoardName) -> Option<&Arc<BoardState>> {
        let board = self.state.boards.get(name);
        board.filter(|board| !board.is_dropped)
    }

    /// Where a watch begins that is to be told what comes after this.
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.state.epoch,
            revision: self.state.head,
        }
    }

    pub(super) fn record(&self, board: &BoardName, key: &Key) -> Result<Option<Record>> {
        let row = self.keys.get(key_row(board, key).as_slice())?;
        row.map(|row| Record::decode(key, row.value())).transpose()
    }
}

/// Reads what is known, and writes it where nothing was.
fn load(database: &Database, machine: MachineId, ambient: &Ambient) -> Result<State> {
    let write = database.begin_write()?;
    let state = {
        let mut table = write.open_table(STATE)?;
        let row = table.get(META_ROW)?.map(|row| row.value().to_vec());
        let state = if let Some(row) = row {
            State::decode(&row, boards(&table)?)?
        } else {
            let state = State::new(machine, ambient);
            table.insert(META_ROW, state.encode().as_slice())?;
            state
        };
        write.open_table(KEYS)?;
        write.open_table(REVISIONS)?;
        write.open_table(OUTGOING)?;
        write.open_table(CONFLICTS)?;
        write.open_table(ENDED)?;
        state
    };
    write.commit()?;
    Ok(state)
}

fn boards(table: &impl ReadableTable<Bytes, Bytes>) -> Result<Boards> {
    let mut boards = Boards::new();
    for row in table.range(BOARD_ROWS..)? {
        let (name, row) = row?;
        let Some(name) = name.value().strip_prefix(BOARD_ROWS) else {
            break;
        };
        let stored =
            StoredBoard::decode(row.value()).map_err(|_| corrupted("the terms of a board"))?;
        let counts = table.get([COUNT_ROWS, name].concat().as_slice())?;
        let counts = counts.map_or(Ok(Counts::default()), |row| Counts::decode(row.value()));
        let counts = counts.map_err(|_| corrupted("the counts of a board"))?;
        let name = str::from_utf8(name).map_err(|_| corrupted("a board's name"))?;
        let board = BoardState::from_rows(name, stored, counts)?;
        boards.insert(board.name.clone(), Arc::new(board));
    }
    Ok(boards)
}

impl State {
    fn new(machine: MachineId, ambient: &Ambient) -> Self {
        Self {
            epoch: new_epoch(ambient),
            head: 0,
            sequence: FIRST_SEQUENCE,
            time: 0,
            payload: 0,
            lives: Lives {
                machine,
                confirmed: 0,
                all: Vec::new(),
                current: None,
            },
            boards: Arc::default(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = StoredMeta {
            machine: self.lives.machine.as_uuid().as_bytes().to_vec(),
            epoch: self.epoch,
            head: self.head,
            sequence: self.sequence,
            time: self.time,
            payload: self.payload,
            confirmed: self.lives.confirmed,
            lives: self.lives.all.clone(),
        };
        stored.encode_to_vec()
    }

    fn decode(row: &[u8], boards: Boards) -> Result<Self> {
        let wrong = || corrupted("the replica's own record");
        let stored = StoredMeta::decode(row).map_err(|_| wrong())?;
        let machine = Uuid::from_slice(&stored.machine).map_err(|_| wrong())?;
        Ok(Self {
            epoch: stored.epoch,
            head: stored.head,
            sequence: stored.sequence,
            time: stored.time,
            payload: stored.payload,
            lives: Lives {
                machine: MachineId::from_uuid(machine),
                confirmed: stored.confirmed,
                all: stored.lives,
                current: None,
            },
            boards: Arc::new(boards),
        })
    }
}

/// 62 random bits, more than any epoch of the control plane.
pub(super) fn new_epoch(ambient: &Ambient) -> u64 {
    (u64::from_le_bytes(ambient.entropy.bytes()) >> 2) | (1 << 32)
}

/// What redb says, as what the user can do about it.
fn refused(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            OpenError::InUse { path }
        }
        redb::Error::Io(source)
            if !matches!(
                source.kind(),
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput
            ) =>
        {
            OpenError::Io { path, source }
        }
        source => OpenError::Unreadable { path, source },
    }
}

pub(super) fn board_row(board: &BoardName) -> Vec<u8> {
    [BOARD_ROWS, board.as_str().as_bytes()].concat()
}

pub(super) fn counts_row(board: &BoardName) -> Vec<u8> {
    [COUNT_ROWS, board.as_str().as_bytes()].concat()
}

/// Rows of a board's keys begin with this; also those of its revisions.
pub(super) fn rows_of(board: &BoardName) -> Vec<u8> {
    [board.as_str().as_bytes(), &[0]].concat()
}

/// The first row after all of a board's: nothing is between a NUL and the byte after it.
pub(super) fn rows_after(board: &BoardName) -> Vec<u8> {
    [board.as_str().as_bytes(), &[1]].concat()
}

pub(super) fn key_row(board: &BoardName, key: &Key) -> Vec<u8> {
    [board.as_str().as_bytes(), &[0], key.as_str().as_bytes()].concat()
}

pub(super) fn revision_row(board: &BoardName, revision: u64) -> Vec<u8> {
    [board.as_str().as_bytes(), &[0], &revision.to_be_bytes()].concat()
}

/// Reads the key from what follows the board in a row.
pub(super) fn read_key(bytes: &[u8]) -> Result<Key> {
    let key = str::from_utf8(bytes).ok().and_then(|key| key.parse().ok());
    key.ok_or_else(|| corrupted("a key"))
}
