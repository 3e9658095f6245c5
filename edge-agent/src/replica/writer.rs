//! The one thread that writes: it takes all that waits, makes one transaction of it, and
//! answers when that is on disk. A write that is alone waits for nobody.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
    vec,
};

use arc_swap::ArcSwap;
use authguardian_proto::blackboard::v1 as pb;
use redb::{Durability, WriteTransaction};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    change::{Made, Writing},
    error::{Failed, Result, WriteError},
    local::{Acknowledged, LocalWrite},
    store::{Home, Snapshot, State, Store},
    take::{Step, steps},
    watchers::Watchers,
};

/// Most requests of one transaction.
const MAX_REQUESTS: usize = 512;
/// About how many bytes of values one transaction writes.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Between attempts to open the file again: each may read all of it.
const REOPENING: Duration = Duration::from_secs(1);

/// Most transactions in a row that are not waited for to be on disk: the file does not use
/// again what they have freed.
const MAX_UNSYNCED: u32 = 64;

/// What came of a write.
pub(super) type Written = Result<Option<Acknowledged>, WriteError>;

/// What is asked of the thread.
pub(super) enum Request {
    /// Write a key.
    Write(LocalWrite, oneshot::Sender<Written>),
    /// Something of the control plane's.
    Sync(Sync, oneshot::Sender<Result<(), Failed>>),
    /// Do what was asked before, and no more.
    Close(oneshot::Sender<()>),
}

/// What the control plane says.
pub(super) enum Sync {
    /// As whom to write.
    Confirm { incarnation: u32, received: u64 },
    /// What it has had of this replica's.
    HandedOver {
        incarnation: u32,
        counter: u64,
        refused: Vec<pb::RefusedWrite>,
    },
    /// What is in boards.
    Take(Vec<pb::FollowResponse>),
}

/// What the thread and its askers share.
pub(super) struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) watchers: Watchers,
    /// Bytes of writes that wait.
    pub(super) queued_bytes: AtomicUsize,
    /// How many writes wait to be handed over.
    pub(super) waiting: watch::Sender<u64>,
    /// Changes with each commit.
    pub(super) committed: watch::Sender<u64>,
    /// Bytes of the file on disk.
    pub(super) file_bytes: AtomicU64,
}

/// The thread.
pub(super) struct Writer {
    pub(super) home: Home,
    /// `None`: it has failed, and could not be opened again yet.
    pub(super) store: Option<Store>,
    pub(super) state: State,
    pub(super) max_bytes: u64,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) shared: Arc<Shared>,
    /// What the control plane told and is not done yet, each with who waits for it.
    pub(super) taking: VecDeque<Taking>,
    /// Whether the last transaction did.
    pub(super) has_failed: bool,
    /// Transactions since the last that was waited for to be on disk.
    pub(super) unsynced: u32,
    /// Whether some of those are gone with a file that had to be opened again: the control
    /// plane is to tell from where the boards stand now, and not from where they stood.
    pub(super) has_forgotten: bool,
    /// When the file may be opened again, if it has to be; since boot.
    pub(super) opens_at: Duration,
}

/// Something told that takes more than one transaction, maybe.
pub(super) struct Taking {
    pub(super) steps: VecDeque<Step>,
    pub(super) reply: Option<oneshot::Sender<Result<(), Failed>>>,
}

impl Taking {
    /// What is left to do of boards that are not here any more.
    pub(super) fn of_dropped(state: &State) -> VecDeque<Self> {
        let dropped = state.boards.values().filter(|board| board.is_dropped);
        let steps = dropped.map(|board| Step::Erase(board.name.clone()));
        let steps = steps.collect();
        VecDeque::from([Self { steps, reply: None }])
    }
}

/// Answers that wait for the commit.
#[derive(Default)]
struct Answers {
    writes: Vec<(oneshot::Sender<Written>, Written)>,
    syncs: Vec<oneshot::Sender<Result<(), Failed>>>,
}

impl Writer {
    /// Until nobody asks any more, or it is closed.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none()
            && let Some(batch) = self.next_batch(&mut closing)
        {
            self.commit(batch);
        }
        self.requests.close();
        if let Some(Err(error)) = self.store.take().map(|store| store.database.close()) {
            tracing::warn!(%error, "the replica's file was not closed cleanly; it will be repaired");
        }
        // also its watches have ended when whoever closed it goes on
        drop(self);
        if let Some(closing) = closing {
            let _ = closing.send(());
        }
    }

    /// All that waits, up to a bound; waits for something where there is nothing to do.
    /// `None`: nobody asks any more.
    fn next_batch(&mut self, closing: &mut Option<oneshot::Sender<()>>) -> Option<Vec<Request>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        // what has failed is not done over and over again
        let mut next = if self.taking.is_empty() || self.has_failed {
            Some(self.requests.blocking_recv()?)
        } else {
            self.requests.try_recv().ok()
        };
        while let Some(request) = next {
            if let Request::Close(reply) = request {
                *closing = Some(reply);
                break;
            }
            bytes += self.took(&request);
            batch.push(request);
            if batch.len() >= MAX_REQUESTS || bytes >= MAX_BYTES {
                break;
            }
            next = self.requests.try_recv().ok();
        }
        Some(batch)
    }

    /// A request does not wait any more. Returns its bytes.
    fn took(&self, request: &Request) -> usize {
        let Request::Write(write, _) = request else {
            return 0;
        };
        let bytes = write.bytes();
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        bytes
    }

    /// Makes one transaction of a batch, and answers.
    fn commit(&mut self, batch: Vec<Request>) {
        let mut answers = Answers::default();
        let mut batch = batch.into_iter();
        let done = self.transact(&mut batch, &mut answers);
        self.has_failed = done.is_err();
        let Err(error) = done else {
            return answers.send();
        };
        for request in batch {
            match request {
                Request::Write(_, reply) => answers.writes.push((reply, Ok(None))),
                Request::Sync(_, reply) => answers.syncs.push(reply),
                Request::Close(_) => {}
            }
        }
        if self.store.is_some() {
            tracing::error!(%error, "the replica's file cannot be read or written");
        }
        let told = std::mem::take(&mut self.taking);
        let told = told.into_iter().filter_map(|taking| taking.reply);
        answers.syncs.extend(told);
        answers.fail(&Failed::from(error));
        // of a disk that was full, or away, reads are to be possible again at once
        let _ = self.begin();
        self.taking = Taking::of_dropped(&self.state);
    }

    /// Begins a transaction. After an error of the disk redb takes no more: the file is
    /// opened again.
    fn begin(&mut self) -> Result<WriteTransaction> {
        if let Some(store) = &self.store {
            match store.database.begin_write() {
                Ok(transaction) => return Ok(transaction),
                Err(error) => tracing::debug!(%error, "the replica's file is to be opened again"),
            }
        }
        // the lock goes with it
        if let Some(store) = self.store.take() {
            let _ = store.database.close();
        }
        let now = self.home.ambient.clock.since_boot();
        if now < self.opens_at {
            return Err(redb::Error::PreviousIo);
        }
        self.opens_at = now + REOPENING;
        let (store, mut state) = self.home.open().map_err(|error| {
            tracing::debug!(%error, "the replica's file cannot be opened again yet");
            redb::Error::PreviousIo
        })?;
        state.lives.current = self.state.lives.current;
        let snapshot = Arc::new(store.snapshot(state.clone())?);
        let waiting = snapshot.waiting()?;
        // what was being written may be there, and nobody was told of it
        self.shared.watchers.lag();
        self.shared.show(snapshot, waiting);
        let transaction = store.database.begin_write()?;
        (self.store, self.state) = (Some(store), state);
        self.has_forgotten |= self.unsynced > 0;
        self.unsynced = 0;
        tracing::info!("the replica's file was opened again");
        Ok(transaction)
    }

    fn transact(
        &mut self,
        batch: &mut vec::IntoIter<Request>,
        answers: &mut Answers,
    ) -> Result<()> {
        let transaction = self.begin()?;
        let full = self.full();
        let mut writing = Writing::begin(&transaction, self.state.clone(), &self.home.ambient)?;
        for request in batch {
            match request {
                Request::Write(write, reply) => {
                    let done = writing.write(write, full);
                    let (done, failed) =
                        done.map_or_else(|error| (Ok(None), Some(error)), |done| (done, None));
                    answers.writes.push((reply, done));
                    if let Some(error) = failed {
                        return Err(error);
                    }
                }
                Request::Sync(sync, reply) => match sync {
                    Sync::Take(_) if std::mem::take(&mut self.has_forgotten) => {
                        let _ = reply.send(Err(redb::Error::PreviousIo.into()));
                    }
                    Sync::Take(messages) => self.taking.push_back(Taking {
                        steps: steps(messages),
                        reply: Some(reply),
                    }),
                    sync => {
                        answers.syncs.push(reply);
                        writing.sync(sync)?;
                    }
                },
                Request::Close(_) => {}
            }
        }
        while let Some(taking) = self.taking.front_mut() {
            writing.advance(&mut taking.steps)?;
            if !taking.steps.is_empty() {
                break;
            }
            let done = self.taking.pop_front();
            answers.syncs.extend(done.and_then(|done| done.reply));
        }
        let made = writing.finish()?;
        self.publish(transaction, made)
    }

    /// Puts it on disk, and tells. What the control plane tells again after a crash, such as
    /// that it has had a write, comes to the disk with the next transaction that must be
    /// there, or when the file is closed: so it delays no write.
    fn publish(&mut self, mut transaction: WriteTransaction, made: Made) -> Result<()> {
        if !made.has_changed {
            return Ok(transaction.abort()?);
        }
        let is_synced = made.is_lasting || self.unsynced >= MAX_UNSYNCED;
        if !is_synced {
            transaction.set_durability(Durability::None)?;
        }
        transaction.commit()?;
        self.unsynced = if is_synced { 0 } else { self.unsynced + 1 };
        self.state = made.state;
        let Some(store) = &self.store else {
            return Err(redb::Error::DatabaseClosed);
        };
        let snapshot = Arc::new(store.snapshot(self.state.clone())?);
        let (waiting, position) = (snapshot.waiting()?, snapshot.position());
        self.shared.show(snapshot, waiting);
        self.shared.watchers.tell(&made.told, position);
        self.shared.watchers.end(&made.dropped);
        Ok(())
    }

    /// The bound of the file, where values are not taken any more: it has reached it, and
    /// what is in it fills it. Deleting makes room in the file, but does not make it smaller.
    fn full(&self) -> Option<u64> {
        let bytes = self.store.as_ref().map_or(0, Store::bytes);
        self.shared.file_bytes.store(bytes, Ordering::Relaxed);
        let max = self.max_bytes;
        let is_filled = self.state.payload.saturating_mul(2) >= max;
        (bytes >= max && is_filled).then_some(max)
    }
}

impl Drop for Writer {
    /// Also where it panicked: nobody is to wait for what does not come.
    fn drop(&mut self) {
        self.shared.watchers.close();
    }
}

impl Shared {
    /// Lets readers see a commit.
    fn show(&self, snapshot: Arc<Snapshot>, waiting: u64) {
        self.snapshot.store(snapshot);
        self.committed.send_modify(|commits| *commits += 1);
        self.waiting.send_if_modified(|known| {
            let is_new = *known != waiting;
            *known = waiting;
            is_new
        });
    }
}

impl Writing<'_> {
    fn sync(&mut self, sync: Sync) -> Result<()> {
        match sync {
            Sync::Confirm {
                incarnation,
                received,
            } => self.confirm(incarnation, received),
            Sync::HandedOver {
                incarnation,
                counter,
                refused,
            } => self.handed_over(incarnation, counter, refused),
            Sync::Take(_) => Ok(()),
        }
    }
}

impl Answers {
    fn send(self) {
        for (reply, done) in self.writes {
            let _ = reply.send(done);
        }
        for reply in self.syncs {
            let _ = reply.send(Ok(()));
        }
    }

    fn fail(self, failed: &Failed) {
        for (reply, done) in self.writes {
            // what was refused was refused
            let _ = reply.send(done.and(Err(failed.clone().into())));
        }
        for reply in self.syncs {
            let _ = reply.send(Err(failed.clone()));
        }
    }
}
