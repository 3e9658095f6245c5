//! The one thread that writes: it takes all that waits, makes one transaction of it, and
//! answers when that is on disk. A write that is alone waits for nobody.

use std::{
    collections::VecDeque,
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use authguardian_proto::blackboard::v1 as pb;
use redb::WriteTransaction;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Limits,
    change::{Made, Writing},
    error::{Failed, Result, WriteError},
    local::{Acknowledged, LocalWrite},
    store::{Snapshot, State, Store, bytes_on_disk},
    take::{Step, steps},
    watch::Watchers,
};
use crate::clock::Ambient;

/// Most requests of one transaction.
const MAX_REQUESTS: usize = 512;
/// About how many bytes of values one transaction writes.
const MAX_BYTES: usize = 8 * 1024 * 1024;

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
    pub(super) store: Store,
    pub(super) file: File,
    pub(super) state: State,
    pub(super) limits: Limits,
    pub(super) ambient: Ambient,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) shared: Arc<Shared>,
    /// What the control plane told and is not done yet, each with who waits for it.
    pub(super) taking: VecDeque<Taking>,
}

/// Something told that takes more than one transaction, maybe.
pub(super) struct Taking {
    pub(super) steps: VecDeque<Step>,
    pub(super) reply: Option<oneshot::Sender<Result<(), Failed>>>,
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
        let closing = loop {
            let (batch, closing) = self.next_batch();
            if batch.is_empty() && self.taking.is_empty() {
                break closing;
            }
            self.commit(batch);
            if closing.is_some() {
                break closing;
            }
        };
        self.requests.close();
        self.shared.watchers.close();
        if let Err(error) = self.store.database.close() {
            tracing::warn!(%error, "the replica's file was not closed cleanly; it will be repaired");
        }
        if let Some(closing) = closing {
            let _ = closing.send(());
        }
    }

    /// All that waits, up to a bound; waits for something where there is nothing to do.
    fn next_batch(&mut self) -> (Vec<Request>, Option<oneshot::Sender<()>>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        if self.taking.is_empty() {
            match self.requests.blocking_recv() {
                Some(Request::Close(closing)) => return (batch, Some(closing)),
                Some(first) => {
                    bytes += self.took(&first);
                    batch.push(first);
                }
                None => return (batch, None),
            }
        }
        while batch.len() < MAX_REQUESTS && bytes < MAX_BYTES {
            match self.requests.try_recv() {
                Ok(Request::Close(closing)) => return (batch, Some(closing)),
                Ok(request) => {
                    bytes += self.took(&request);
                    batch.push(request);
                }
                Err(_) => break,
            }
        }
        (batch, None)
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
        match self.transact(batch, &mut answers) {
            Ok(()) => answers.send(),
            Err(error) => {
                tracing::error!(%error, "the replica's file cannot be written");
                let failed = Failed::from(error);
                let told = std::mem::take(&mut self.taking);
                answers
                    .syncs
                    .extend(told.into_iter().filter_map(|taking| taking.reply));
                answers.fail(&failed);
            }
        }
    }

    fn transact(&mut self, batch: Vec<Request>, answers: &mut Answers) -> Result<()> {
        let full = self.full();
        let transaction = self.store.database.begin_write()?;
        let mut writing = Writing::begin(&transaction, self.state.clone(), &self.ambient)?;
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

    /// Puts it on disk, and tells.
    fn publish(&mut self, transaction: WriteTransaction, made: Made) -> Result<()> {
        if !made.has_changed {
            return Ok(transaction.abort()?);
        }
        transaction.commit()?;
        self.state = made.state;
        let snapshot = Arc::new(self.store.snapshot(self.state.clone())?);
        let (waiting, position) = (snapshot.waiting()?, snapshot.position());
        let shared = &self.shared;
        shared.snapshot.store(snapshot);
        shared.committed.send_modify(|commits| *commits += 1);
        shared.watchers.tell(&made.told, position);
        shared.watchers.end(&made.dropped);
        shared.waiting.send_if_modified(|known| {
            let is_new = *known != waiting;
            *known = waiting;
            is_new
        });
        Ok(())
    }

    /// The bound of the file, where values are not taken any more: it has reached it, and
    /// what is in it fills it. Deleting makes room in the file, but does not make it smaller.
    fn full(&self) -> Option<u64> {
        let bytes = bytes_on_disk(&self.file);
        self.shared.file_bytes.store(bytes, Ordering::Relaxed);
        let max = self.limits.max_bytes;
        let is_filled = self.state.payload.saturating_mul(2) >= max;
        (bytes >= max && is_filled).then_some(max)
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
