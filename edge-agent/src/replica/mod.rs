//! The durable replica of boards: what this machine's agents write is on its disk when it is
//! acknowledged, also where the control plane is away, and what others wrote is here to
//! be read.
//!
//! All is in one file (redb). One thread writes it (`writer`): it makes one transaction of
//! all that waits. Readers each see one commit, and never wait. What happens to keys is
//! decided in `change`, for local writes (`local`) as for what the control plane tells
//! (`take`); what is to be told to it waits in `outgoing`, under the actor that `actor` allows.
//!
//! A replica has revisions of its own, one for each change of a key, under an epoch of its
//! own: watches and answers name those. Of the control plane's it knows for each version
//! which took it.

mod actor;
mod board;
mod change;
mod clear;
mod error;
mod local;
mod outgoing;
mod read;
mod record;
mod store;
mod take;
mod watch;
mod watchers;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use authguardian_proto::{
    blackboard::v1 as pb,
    ids::{BoardName, MachineId},
};
use tokio::{
    sync::{mpsc, oneshot, watch as latest},
    time::Instant,
};

pub use board::{BoardState, Counts};
pub use error::{Failed, OpenError, WatchError, WriteError};
pub use local::{Acknowledged, Delete, Put};
pub use outgoing::OutgoingWrite;
pub use read::{Page, Range};
pub use record::{Content, Found, Value};
pub use watch::{Change, ChangeKind, Filter, News, Watch};

use crate::clock::Ambient;
use local::LocalWrite;
use store::{Home, Snapshot};
use watchers::Watchers;
use writer::{Request, Shared, Sync, Taking, Writer};

/// How much a replica may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the file, in bytes: from here on values are not taken from this machine's agents.
    pub max_bytes: u64,
    /// Of memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// Writes that wait for the disk.
    pub queue: usize,
    /// Bytes of their values.
    pub queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            queue: 4_096,
            queue_bytes: 64 * 1024 * 1024,
        }
    }
}

/// How a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes of its file, on disk.
    pub file_bytes: u64,
    /// Writes that wait to be handed over.
    pub waiting: u64,
    /// Transactions since it was opened.
    pub commits: u64,
}

/// The replica of a machine. Clones are the same one; it ends with the last of them, or
/// when it is closed.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    limits: Limits,
    ambient: Ambient,
}

impl Replica {
    /// Opens the replica in a directory, or makes one. Reads the whole file where the last
    /// process was killed: not for threads that must not wait.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        dir: &Path,
        machine: MachineId,
        limits: Limits,
        ambient: Ambient,
    ) -> Result<Self, OpenError> {
        let home = Home {
            dir: dir.to_owned(),
            machine,
            cache_bytes: limits.cache_bytes,
            ambient: ambient.clone(),
        };
        let (store, state) = home.open()?;
        let snapshot = store.snapshot(state.clone());
        let snapshot = snapshot.map_err(|error| home.refused(error))?;
        let waiting = snapshot.waiting().map_err(|error| home.refused(error))?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            watchers: Watchers::default(),
            queued_bytes: AtomicUsize::new(0),
            waiting: latest::Sender::new(waiting),
            committed: latest::Sender::new(0),
            file_bytes: AtomicU64::new(store.bytes()),
        });
        let (requests, receiver) = mpsc::channel(limits.queue);
        let writer = Writer {
            home,
            store: Some(store),
            // the last process may have ended before it was done with it
            taking: Taking::of_dropped(&state),
            state,
            max_bytes: limits.max_bytes,
            requests: receiver,
            shared: shared.clone(),
            has_failed: false,
            unsynced: 0,
            has_forgotten: false,
            opens_at: Duration::ZERO,
        };
        let thread = std::thread::Builder::new().name("replica".to_owned());
        let spawned = thread.spawn(move || writer.run());
        spawned.map_err(|source| OpenError::Io {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            shared,
            requests,
            limits,
            ambient,
        })
    }

    /// Ends it after all that was asked for before, and frees the file.
    pub async fn close(&self) {
        let (closing, closed) = oneshot::channel();
        if self.requests.send(Request::Close(closing)).await.is_ok() {
            let _ = closed.await;
        }
        self.requests.closed().await;
    }

    /// Puts a value into a key of an eventual board; it is on disk when this returns.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn put(&self, put: Put) -> Result<Acknowledged, WriteError> {
        let done = self.write(LocalWrite::Put(put)).await?;
        done.ok_or(WriteError::Failed(Failed::Closed))
    }

    /// Deletes a key of an eventual board; `None`: it was not there, and nothing was done.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn delete(&self, delete: Delete) -> Result<Option<Acknowledged>, WriteError> {
        self.write(LocalWrite::Delete(delete)).await
    }

    async fn write(&self, write: LocalWrite) -> Result<Option<Acknowledged>, WriteError> {
        let bytes = write.bytes();
        let queued = &self.shared.queued_bytes;
        let before = queued.fetch_add(bytes, Ordering::Relaxed);
        let (reply, done) = oneshot::channel();
        let asked = if before > 0 && before + bytes > self.limits.queue_bytes {
            Err(WriteError::Busy)
        } else {
            let asked = self.requests.try_send(Request::Write(write, reply));
            asked.map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => WriteError::Busy,
                mpsc::error::TrySendError::Closed(_) => Failed::Closed.into(),
            })
        };
        if let Err(refused) = asked {
            queued.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused);
        }
        done.await.unwrap_or(Err(Failed::Closed.into()))
    }

    /// As which incarnation it wrote last, of those that the control plane gave, and its highest
    /// counter as that; 0: it never did. To be asked with before [`Replica::confirm`].
    pub fn last_actor(&self) -> (u32, u64) {
        let snapshot = self.snapshot();
        let lives = &snapshot.state.lives;
        let written = lives.get(lives.confirmed).map_or(0, |life| life.written);
        (lives.confirmed, written)
    }

    /// Whether it is settled as whom it writes: as the control plane has said, or as one that
    /// it has made up.
    pub fn has_actor(&self) -> bool {
        self.snapshot().state.lives.current.is_some()
    }

    /// The control plane has said as which incarnation the replica writes from now on, and the
    /// highest counter of it that it has had.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn confirm(&self, incarnation: u32, received: u64) -> Result<(), Failed> {
        let sync = Sync::Confirm {
            incarnation,
            received,
        };
        self.sync(sync).await
    }

    /// The oldest writes that wait to be handed over, at most so many and about 1 MiB, all of
    /// one incarnation.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn outgoing(&self, limit: usize) -> Result<Vec<OutgoingWrite>, Failed> {
        self.snapshot()
            .outgoing(limit)
            .map_err(|error| self.failed(error))
    }

    /// How many writes wait to be handed over, as that changes.
    pub fn waiting(&self) -> latest::Receiver<u64> {
        self.shared.waiting.subscribe()
    }

    /// The control plane has had all writes of an incarnation up to a counter, and has refused
    /// some of them, which are undone.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn handed_over(
        &self,
        incarnation: u32,
        counter: u64,
        refused: Vec<pb::RefusedWrite>,
    ) -> Result<(), Failed> {
        let sync = Sync::HandedOver {
            incarnation,
            counter,
            refused,
        };
        self.sync(sync).await
    }

    /// Takes what the control plane tells. Returns when all of it is here, and on disk what
    /// readers see of it.
    ///
    /// # Errors
    /// [`Failed`]: follow anew, from where the boards stand.
    pub async fn take(&self, messages: Vec<pb::FollowResponse>) -> Result<(), Failed> {
        self.sync(Sync::Take(messages)).await
    }

    async fn sync(&self, sync: Sync) -> Result<(), Failed> {
        let (reply, done) = oneshot::channel();
        let asked = self.requests.send(Request::Sync(sync, reply)).await;
        asked.map_err(|_| Failed::Closed)?;
        done.await.unwrap_or(Err(Failed::Closed))
    }

    /// Up to where it has each board. Those that are to be pulled as a whole are left out.
    pub fn positions(&self) -> Vec<pb::BoardPosition> {
        let boards = self.boards().into_iter();
        let boards = boards.filter(|board| board.is_resumable());
        let positions = boards.map(|board| pb::BoardPosition {
            board: board.name.to_string(),
            position: board.position,
        });
        positions.collect()
    }

    /// Waits until a board has come to a position of the control plane; `false`: it has not in
    /// time.
    pub async fn wait_for(
        &self,
        board: &BoardName,
        epoch: u64,
        revision: u64,
        deadline: Instant,
    ) -> bool {
        let has_come = || {
            let board = self.board(board).filter(|board| board.is_ready());
            let position = board.and_then(|board| board.position);
            position.is_some_and(|at| at.epoch == epoch && at.revision >= revision)
        };
        let mut commits = self.shared.committed.subscribe();
        let waiting = commits.wait_for(|_| has_come());
        let waited = tokio::time::timeout_at(deadline, waiting).await;
        waited.is_ok_and(|came| came.is_ok())
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        Status {
            file_bytes: self.shared.file_bytes.load(Ordering::Relaxed),
            waiting: *self.shared.waiting.borrow(),
            commits: *self.shared.committed.borrow(),
        }
    }

    fn snapshot(&self) -> Guard<Arc<Snapshot>> {
        self.shared.snapshot.load()
    }

    fn watchers(&self) -> &Watchers {
        &self.shared.watchers
    }

    fn check_open(&self) -> Result<(), Failed> {
        if self.requests.is_closed() {
            return Err(Failed::Closed);
        }
        Ok(())
    }

    /// What a read that failed is told as.
    fn failed(&self, error: redb::Error) -> Failed {
        self.check_open().err().unwrap_or_else(|| error.into())
    }

    /// Milliseconds since 1970.
    fn now(&self) -> u64 {
        let now = self.ambient.clock.now().unix_timestamp_nanos() / 1_000_000;
        u64::try_from(now).unwrap_or_default()
    }
}
