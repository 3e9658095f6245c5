//! The journal: one file to which every task appends its lines, each with one write before
//! anybody is told. What has to outlast a loss of power is waited for; one such wait serves
//! all who wait.
//!
//! While it is written anew, lines of tasks that were copied already go to both files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::OwnedMutexGuard;

use super::{
    pen::Pen,
    record::{FORMAT, Record},
    replay::Replayed,
};
use crate::{
    clock::Ambient,
    files::{private, sync_dir},
    tail::{Damage, Tail},
};

/// Its name in the directory.
pub(super) const FILE: &str = "slices.journal";
/// What it is written anew as.
const NEW_FILE: &str = "slices.journal.new";
/// What one is kept as that cannot be read.
pub(super) const DAMAGED_FILE: &str = "slices.journal.damaged";

/// It is not written anew below this length …
const SMALL: u64 = 32 * 1024 * 1024;
/// … and otherwise where it has grown to so many times what was in it then.
const GROWTH: u64 = 4;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Reading or writing failed.
    #[error("`{path}` cannot be used: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what an edge wrote.
    #[error("`{path}` cannot be read as the journal of budgets: line {line}: {what}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

/// The open journal.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    id: u64,
    boot: String,
    tip: Mutex<Tip>,
    /// Held by whoever waits for the disk, or writes it anew.
    syncing: Arc<tokio::sync::Mutex<()>>,
    /// How much of all that was ever written is on disk for good.
    synced: AtomicU64,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// Where it is written.
#[derive(Debug)]
struct Tip {
    file: Tail,
    /// The one that comes after it.
    next: Option<Tail>,
    /// Counts how often it was written anew.
    generation: u64,
    /// Bytes that were ever written.
    written: u64,
    /// Its length when all in it was in use.
    compact: u64,
    /// What was waited for may not be on disk: all of it has to be written again.
    is_doubtful: bool,
    numbers: u32,
}

/// What a test lets go wrong.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) is_full: std::sync::atomic::AtomicBool,
    pub(super) is_unsyncable: std::sync::atomic::AtomicBool,
}

impl Journal {
    /// Reads the journal in a directory, or makes one. `boot`: which boot of the machine
    /// this is.
    pub(super) fn open(
        dir: &Path,
        ambient: &Ambient,
        boot: &str,
    ) -> Result<(Self, Replayed), OpenError> {
        let path = dir.join(FILE);
        let io = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        // of a process that was killed while it wrote
        match fs::remove_file(dir.join(NEW_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let file = private().read(true).open(&path).map_err(io)?;
        let content = fs::read(&path).map_err(io)?;
        let replayed = Replayed::read(&content, boot);
        let replayed = replayed.map_err(|Damage { line, what }| OpenError::Damaged {
            path: path.clone(),
            line,
            what,
        })?;
        let mut file = Tail::after(file, replayed.len);
        let id = replayed.id.unwrap_or_else(|| fresh_id(ambient));
        let mut lines = Vec::new();
        if replayed.id.is_none() {
            Record::Journal { id, format: FORMAT }.write(&mut lines);
        }
        if !replayed.is_of_boot {
            Record::Boot(boot.into()).write(&mut lines);
        }
        file.append(&lines).map_err(io)?;
        file.file().sync_all().map_err(io)?;
        sync_dir(dir).map_err(io)?;
        let numbers = replayed.tasks.keys().next_back().copied().unwrap_or(0);
        let journal = Self {
            dir: dir.to_owned(),
            id,
            boot: boot.to_owned(),
            tip: Mutex::new(Tip {
                file,
                next: None,
                generation: 0,
                written: 0,
                compact: 0,
                is_doubtful: false,
                numbers,
            }),
            syncing: Arc::default(),
            synced: AtomicU64::new(0),
            #[cfg(test)]
            faults: Faults::default(),
        };
        Ok((journal, replayed))
    }

    /// Made when it was; another one means that what was in it is lost.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A number for a task that has none.
    pub(super) fn next_number(&self) -> u32 {
        let mut tip = self.tip();
        tip.numbers += 1;
        tip.numbers
    }

    /// Appends lines of a task with one write. Where it ends then.
    pub(super) fn append(&self, lines: &[u8], pen: &mut Pen) -> io::Result<u64> {
        let mut tip = self.tip();
        #[cfg(test)]
        self.faults.write()?;
        tip.file.append(lines)?;
        tip.written += length(lines);
        if !pen.is_named {
            // whatever is written anew has not come by it, and it has nothing else to copy
            (pen.is_named, pen.generation) = (true, tip.generation);
        }
        if pen.generation == tip.generation
            && let Some(next) = &mut tip.next
            && let Err(error) = next.append(lines)
        {
            tracing::debug!(%error, "the journal of budgets cannot be written anew");
            tip.next = None;
        }
        Ok(tip.written)
    }

    /// Appends a line of no task. Where it ends then.
    pub(super) fn note(&self, record: &Record<'_>) -> io::Result<u64> {
        let mut line = Vec::new();
        record.write(&mut line);
        let mut tip = self.tip();
        #[cfg(test)]
        self.faults.write()?;
        tip.file.append(&line)?;
        tip.written += length(&line);
        if let Some(next) = &mut tip.next
            && let Err(error) = next.append(&line)
        {
            tracing::debug!(%error, "the journal of budgets cannot be written anew");
            tip.next = None;
        }
        Ok(tip.written)
    }

    /// All tasks are copied where it is written anew: copies what is of none of them.
    pub(super) fn copy_rest(&self, lines: &[u8]) -> io::Result<()> {
        let mut tip = self.tip();
        let next = tip.next.as_mut().ok_or_else(abandoned)?;
        #[cfg(test)]
        self.faults.write()?;
        next.append(lines)
    }

    /// How much is on disk for good.
    pub(super) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Waits until all up to here is on disk for good.
    ///
    /// # Errors
    /// When it is not, and may never be.
    pub(super) async fn sync(&self, up_to: u64) -> io::Result<()> {
        if self.synced() >= up_to {
            return Ok(());
        }
        let _turn = self.syncing.lock().await;
        if self.synced() >= up_to {
            return Ok(());
        }
        let (file, written) = {
            let tip = self.tip();
            if tip.is_doubtful {
                return Err(io::Error::other("the journal has to be written anew first"));
            }
            (tip.file.file().clone(), tip.written)
        };
        #[cfg(test)]
        self.faults.sync()?;
        let done = tokio::task::spawn_blocking(move || file.sync_data()).await;
        match done.map_err(io::Error::other).flatten() {
            Ok(()) => {
                self.synced.fetch_max(written, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                // the system tells of it once, and then takes what it lost for written
                self.tip().is_doubtful = true;
                Err(error)
            }
        }
    }

    /// Whether what was waited for may not be on disk.
    pub(super) fn is_doubtful(&self) -> bool {
        self.tip().is_doubtful
    }

    /// Whether it is to be written anew.
    pub(super) fn wants_rewriting(&self) -> bool {
        let tip = self.tip();
        tip.is_doubtful || tip.file.end() > SMALL.max(tip.compact.saturating_mul(GROWTH))
    }

    /// Waits until nobody waits for the disk.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        self.syncing.clone().lock_owned().await
    }

    /// Begins to write it anew. Whoever begins holds the [`Journal::turn`].
    pub(super) fn begin_rewriting(&self) -> io::Result<()> {
        let file = private().truncate(true).open(self.dir.join(NEW_FILE))?;
        let mut next = Tail::new(file);
        let mut lines = Vec::new();
        let id = self.id;
        Record::Journal { id, format: FORMAT }.write(&mut lines);
        Record::Boot(self.boot.as_str().into()).write(&mut lines);
        next.append(&lines)?;
        let mut tip = self.tip();
        tip.generation += 1;
        tip.next = Some(next);
        Ok(())
    }

    /// Copies a task, of which all is in these lines.
    pub(super) fn copy(&self, lines: &[u8], pen: &mut Pen) -> io::Result<()> {
        let mut tip = self.tip();
        let generation = tip.generation;
        if !pen.is_named || pen.generation == generation {
            return Ok(());
        }
        let next = tip.next.as_mut().ok_or_else(abandoned)?;
        #[cfg(test)]
        self.faults.write()?;
        next.append(lines)?;
        pen.generation = generation;
        Ok(())
    }

    /// All tasks are copied: from here on the new one is the journal.
    pub(super) fn end_rewriting(&self) -> io::Result<()> {
        let (file, written) = {
            let tip = self.tip();
            let next = tip.next.as_ref().ok_or_else(abandoned)?;
            (next.file().clone(), tip.written)
        };
        #[cfg(test)]
        self.faults.sync()?;
        file.sync_all()?;
        {
            let mut tip = self.tip();
            let next = tip.next.take().ok_or_else(abandoned)?;
            fs::rename(self.dir.join(NEW_FILE), self.dir.join(FILE))?;
            // what was written since it was waited for is in it, and not yet on disk
            (tip.compact, tip.file, tip.is_doubtful) = (next.end(), next, true);
        }
        sync_dir(&self.dir)?;
        self.tip().is_doubtful = false;
        self.synced.fetch_max(written, Ordering::AcqRel);
        Ok(())
    }

    /// It is not written anew after all.
    pub(super) fn abandon_rewriting(&self) {
        self.tip().next = None;
    }

    fn tip(&self) -> MutexGuard<'_, Tip> {
        self.tip.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Faults {
    fn write(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_unsyncable.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is broken"));
        }
        Ok(())
    }
}

/// Sets a journal aside that cannot be read, as a loss of power may leave it: another one
/// begins, and what this machine held counts as spent until an operator settles it.
///
/// # Errors
/// Any other error as it is.
pub(super) fn set_aside(dir: &Path, error: OpenError) -> Result<(), OpenError> {
    let OpenError::Damaged { path, .. } = &error else {
        return Err(error);
    };
    let aside = dir.join(DAMAGED_FILE);
    let renamed = fs::rename(path, &aside).and_then(|()| sync_dir(dir));
    renamed.map_err(|source| OpenError::Io {
        path: path.clone(),
        source,
    })?;
    tracing::error!(%error, kept_as = %aside.display(), "what this machine held of budgets counts as spent until an operator settles it");
    Ok(())
}

fn length(lines: &[u8]) -> u64 {
    u64::try_from(lines.len()).unwrap_or(u64::MAX)
}

fn abandoned() -> io::Error {
    io::Error::other("writing it anew was abandoned")
}

/// A number that also databases can keep which know no unsigned ones; never 0.
fn fresh_id(ambient: &Ambient) -> u64 {
    (u64::from_le_bytes(ambient.entropy.bytes()) >> 1).max(1)
}
