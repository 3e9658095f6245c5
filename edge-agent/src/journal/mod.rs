//! The journal of calls that ended at this edge, on their way to the audit log: it survives
//! the process, and what is in it is told exactly once.
//!
//! A call is one line of a file before its caller is answered, so that a process that is
//! killed forgets nothing; of a flood, repeats are counted for up to a second. A file is a
//! batch. Once a second it is closed, brought to disk for good and sent under its number,
//! again and again until the control plane says that it is written; the control plane writes
//! no number of a journal twice. Then the file goes.
//!
//! Numbers only grow. Each process begins with one that is ahead of all before it by chance,
//! so that one whose disk was set back does not use the numbers of what is in the log by now;
//! should it do so nevertheless, it hears of a higher one than it has used, and begins a
//! journal with another id.

mod batch;
mod call;
mod files;
mod inherit;
mod record;
mod second;
mod segment;
mod state;
#[cfg(test)]
mod tests;
mod waiting;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::audit::v1::ReportCallsRequest;

pub use batch::Batch;
pub use call::{Call, Outcome};

use batch::Now;
use files::Files;
use inherit::inherit;
use state::State;
use waiting::{Place, Waiting};

use crate::clock::{self, Ambient};

/// Its directory among what the edge keeps.
const DIR: &str = "journal";

/// So far, at most, numbers of a process may begin after those before it.
const AHEAD: u64 = 1 << 20;

/// Calls on their way to the audit log.
#[derive(Debug)]
pub struct Journal {
    ambient: Ambient,
    /// Which boot of the machine this is.
    boot: Arc<str>,
    files: Files,
    state: Mutex<State>,
    /// Held by whoever brings closed files to disk, reads or removes them.
    keeping: Mutex<()>,
}

impl Journal {
    /// Opens the journal in the edge's directory, or makes one; reads and writes files.
    ///
    /// # Errors
    /// When its files cannot be listed, or the last one not be read. One that cannot be
    /// written goes on in memory.
    pub fn open(dir: &Path, ambient: Ambient) -> io::Result<Arc<Self>> {
        let boot = clock::boot_id().unwrap_or_else(|error| {
            tracing::warn!(%error, "this boot is not told from others: when calls were is told by the wall clock");
            ambient.uuid().to_string()
        });
        Self::open_as(dir, ambient, &boot)
    }

    /// Likewise; `boot`: which boot of the machine this is.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_as(dir: &Path, ambient: Ambient, boot: &str) -> io::Result<Arc<Self>> {
        let files = Files::new(dir.join(DIR));
        let inherited = inherit(&files)?;
        let ahead = match inherited.highest {
            0 => 0,
            _ => u64::from_le_bytes(ambient.entropy.bytes()) % AHEAD,
        };
        let id = inherited.id.unwrap_or_else(|| ambient.uuid());
        let first = inherited.highest.saturating_add(ahead).saturating_add(1);
        let boot: Arc<str> = boot.into();
        let now = now(&ambient, &boot);
        let state = State::begin(id, first, inherited.queue, &files, &now);
        for sequence in inherited.empty {
            remove(&files, sequence);
        }
        Ok(Arc::new(Self {
            ambient,
            boot,
            files,
            state: Mutex::new(state),
            keeping: Mutex::default(),
        }))
    }

    /// Notes a call.
    pub fn note(&self, call: Call) {
        let now = self.now();
        self.state().note(call, &self.files, &now);
    }

    /// Writes down what was counted only; closes what was noted where nothing else waits,
    /// and brings what is closed to disk for good. Whether all that was noted is closed.
    pub async fn cut(self: &Arc<Self>) -> bool {
        self.on_disk(Self::cut_now).await.unwrap_or(true)
    }

    /// What is to be sent next; `None`: nothing waits.
    ///
    /// # Errors
    /// When it cannot be read, which is said in the log: it waits.
    pub async fn next(self: &Arc<Self>) -> io::Result<Option<Arc<Batch>>> {
        let reading = self.on_disk(Self::next_now).await;
        reading.unwrap_or_else(|| Err(io::Error::other("the reading was given up")))
    }

    /// As it is sent now.
    pub fn message(&self, batch: &Batch) -> ReportCallsRequest {
        batch.message(&self.now())
    }

    /// What came of sending: `written` is the highest number of its journal that the control
    /// plane has written; 0: it keeps no journals, and has written the batch. Whether that
    /// is an answer: a number below that of the batch is none, and the batch waits.
    pub async fn written(self: &Arc<Self>, batch: Arc<Batch>, written: u64) -> bool {
        let sequence = batch.sequence();
        if written > 0 && written < sequence {
            tracing::warn!(journal_id = %batch.journal_id(), sequence, written, "the control plane has taken a part of the journal of calls without writing it: it waits");
            return false;
        }
        let take = move |journal: &Self| journal.take_written(&batch, written);
        self.on_disk(take).await.is_some()
    }

    /// The control plane will never write this batch: it is kept aside.
    pub async fn refused(self: &Arc<Self>, batch: Arc<Batch>) {
        let give_up = move |journal: &Self| {
            if let Err(error) = journal.files.set_refused_aside(batch.sequence()) {
                tracing::debug!(%error, "a batch that was refused is not kept aside");
            }
            journal.state().queue.pop();
        };
        self.on_disk(give_up).await;
    }

    fn cut_now(&self) -> bool {
        let is_all = {
            let now = self.now();
            let mut state = self.state();
            state.flush(&self.files, &now);
            if state.queue.is_empty() {
                state.close(&self.files, &now);
            }
            state.current.batch().is_empty()
        };
        let closed: Vec<_> = self.state().queue.in_memory().collect();
        for (batch, written) in closed {
            let kept = waiting::keep(&batch, written, &self.files);
            let mut state = self.state();
            match kept {
                Ok(bytes) => state.queue.set_place(batch.sequence(), Place::Disk(bytes)),
                Err(error) => {
                    // what it has may not be what was written
                    let place = Place::Memory(batch.clone(), None);
                    state.queue.set_place(batch.sequence(), place);
                    state.told(Err(error), &self.files);
                }
            }
        }
        self.state().mend(&self.files);
        is_all
    }

    fn next_now(&self) -> io::Result<Option<Arc<Batch>>> {
        loop {
            let (sequence, is_inherited) = {
                let state = self.state();
                if let Some(batch) = state.queue.at_hand() {
                    return Ok(Some(batch.clone()));
                }
                match state.queue.first() {
                    None => return Ok(None),
                    Some(Waiting {
                        place: Place::Memory(batch, _),
                        ..
                    }) => return Ok(Some(batch.clone())),
                    Some(first) => (first.sequence, first.is_inherited),
                }
            };
            if is_inherited && let Err(error) = self.files.keep(sequence) {
                tracing::debug!(%error, sequence, "what was left by a process before may not last");
            }
            match self.read(sequence)? {
                Some(batch) if !batch.is_empty() => {
                    let batch = Arc::new(batch);
                    self.state().queue.set_at_hand(batch.clone());
                    return Ok(Some(batch));
                }
                _ => self.drop_first(sequence),
            }
        }
    }

    /// Reads a batch that waits.
    fn read(&self, sequence: u64) -> io::Result<Option<Batch>> {
        let read = inherit::read(&self.files, sequence);
        self.state().told_of_reading(read.as_ref().err());
        read
    }

    fn take_written(&self, batch: &Batch, written: u64) {
        let sequence = batch.sequence();
        if written == 0 || written == sequence {
            return self.drop_first(sequence);
        }
        let (is_inherited, current) = {
            let state = self.state();
            let first = state.queue.first();
            let is_inherited = first.is_some_and(|first| first.is_inherited);
            (is_inherited, state.current.batch().sequence())
        };
        // in order, each is written before the next is sent
        if !is_inherited || written >= current {
            tracing::error!(journal_id = %batch.journal_id(), sequence, written, "the control plane has later calls of this journal than this disk, which was set back: another journal begins");
            self.begin_anew(batch);
        }
        if is_inherited {
            self.drop_first(sequence);
        }
    }

    /// What this process has closed and counts is of another journal; `first`: what waits
    /// first, as it was sent.
    fn begin_anew(&self, first: &Batch) {
        let id = self.ambient.uuid();
        let own: Vec<_> = {
            let mut state = self.state();
            state.begin_anew(id, &self.files);
            state.queue.own().collect()
        };
        for (sequence, place) in own {
            let batch = match place {
                _ if sequence == first.sequence() => Some(first.clone()),
                Place::Memory(batch, _) => Some(Arc::unwrap_or_clone(batch)),
                // one that cannot be read now hears again of a higher number once it is sent
                Place::Disk(_) => self.read(sequence).ok().flatten(),
            };
            let Some(mut batch) = batch else {
                continue;
            };
            batch.head.id = id;
            let kept = waiting::keep(&batch, None, &self.files);
            let place = match kept {
                Ok(bytes) => Place::Disk(bytes),
                Err(_) => Place::Memory(Arc::new(batch), None),
            };
            self.state().queue.set_place(sequence, place);
        }
    }

    /// The first that waits does so no more.
    fn drop_first(&self, sequence: u64) {
        self.state().queue.pop();
        remove(&self.files, sequence);
    }

    /// Does work that waits for the disk, one at a time.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let journal = self.clone();
        let working = tokio::task::spawn_blocking(move || {
            let keeping = journal.keeping.lock();
            let _turn = keeping.unwrap_or_else(PoisonError::into_inner);
            work(&journal)
        });
        working.await.ok()
    }

    fn now(&self) -> Now {
        now(&self.ambient, &self.boot)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it is not to be sent of, or has been.
fn remove(files: &Files, sequence: u64) {
    if let Err(error) = files.remove(sequence) {
        tracing::debug!(%error, sequence, "a part of the journal of calls that is not needed stays");
    }
}

fn now(ambient: &Ambient, boot: &Arc<str>) -> Now {
    let second = ambient.clock.since_boot().as_secs();
    let wall = ambient.clock.now().unix_timestamp();
    Now {
        boot: boot.clone(),
        second,
        offset: wall.saturating_sub_unsigned(second),
    }
}
