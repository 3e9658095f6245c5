//! What can go wrong with a replica.

use std::{path::PathBuf, sync::Arc};

use authguardian_proto::ids::{BoardName, MachineId};

/// Why a replica cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is not what a replica wrote. It is never deleted without being asked for.
    #[error(
        "`{path}` cannot be read as a replica of boards: remove the file to begin anew; writes that were not handed over are lost with it"
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: redb::Error,
    },
    /// It is of another machine, whose writes this one cannot hand over.
    #[error(
        "`{path}` is the replica of machine `{machine}`: remove the file to begin anew; writes that were not handed over are lost with it"
    )]
    OtherMachine {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        machine: MachineId,
    },
    /// Another process has it open.
    #[error("`{path}` is in use: another process has it open")]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// The system does not let it be opened.
    #[error("`{path}` cannot be opened")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Why a replica does not answer at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failed {
    /// It was closed.
    #[error("the replica of boards is closed")]
    Closed,
    /// Its file cannot be read or written. Of a write: nobody knows whether it is there.
    #[error("the replica's file cannot be read or written")]
    Storage(#[source] Arc<redb::Error>),
}

impl From<redb::Error> for Failed {
    fn from(error: redb::Error) -> Self {
        Self::Storage(Arc::new(error))
    }
}

/// Why a write is not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// There is no replica of the board.
    #[error("there is no replica of board `{0}`")]
    NoBoard(BoardName),
    /// The board's writes are ordered by the control plane.
    #[error("board `{0}` is not eventual: its writes go through the control plane")]
    NotEventual(BoardName),
    /// The value is empty, or larger than a value may be.
    #[error("expected a value of 1 to {max_bytes} bytes")]
    TooLarge {
        /// Most bytes.
        max_bytes: usize,
    },
    /// The board may not have more.
    #[error("board `{board}` may have {most} {what}, and no more")]
    Quota {
        /// Which board.
        board: BoardName,
        /// How many of them.
        most: u64,
        /// Of what: `keys` or `bytes`.
        what: &'static str,
    },
    /// The file has reached its bound. Deleting is still possible.
    #[error("the replica may have {max_bytes} bytes on disk, and has them: delete something")]
    Full {
        /// The bound.
        max_bytes: u64,
    },
    /// More writes wait for the disk than may.
    #[error("too many writes wait for the disk: try again")]
    Busy,
    /// The replica does not answer.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// Why a watch does not go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchError {
    /// There is no replica of the board, or no more.
    #[error("there is no replica of board `{0}`")]
    NoBoard(BoardName),
    /// What came after the position cannot be told any more, or it is a position of
    /// another replica: all has to be read again.
    #[error("what came after the position cannot be told any more: list again")]
    Compacted,
    /// The reader was too slow; nothing is lost when it goes on after its last position.
    #[error("the reader was too slow: go on after the last position")]
    Lagged,
    /// The replica does not answer.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// What the parts of the room tell each other.
pub(super) type Result<T, E = redb::Error> = std::result::Result<T, E>;

/// A row that no replica wrote.
pub(super) fn corrupted(what: &str) -> redb::Error {
    redb::Error::Corrupted(format!("expected {what}"))
}
