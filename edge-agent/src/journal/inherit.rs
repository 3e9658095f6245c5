//! What processes before this one have left.

use std::io;

use uuid::Uuid;

use super::{
    batch::{Batch, Damage, Replayed},
    files::Files,
    waiting::{Place, Queue, Waiting},
};

/// What was left.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) queue: Queue,
    /// The journal's id; `None`: there is none, or none that can be read.
    pub(super) id: Option<Uuid>,
    /// The highest number that was used; 0: none.
    pub(super) highest: u64,
    /// Files in which nothing is.
    pub(super) empty: Vec<u64>,
}

/// Looks through the files. All of them are closed now; which of them were sent, the
/// control plane knows.
///
/// # Errors
/// When they cannot be listed.
pub(super) fn inherit(files: &Files) -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    let mut listed = files.list()?;
    inherited.highest = listed.last().map_or(0, |(sequence, _)| *sequence);
    let mut newest = Vec::new();
    // the last one was being written; those before it are read when they are sent
    while inherited.id.is_none()
        && let Some((sequence, _)) = listed.pop()
    {
        let batch = read(files, sequence);
        inherited.id = batch.as_ref().map(Batch::journal_id);
        match batch {
            Some(batch) if !batch.is_empty() => {
                newest.push(waiting(sequence, length(&batch.lines())));
            }
            _ => inherited.empty.push(sequence),
        }
    }
    for (sequence, bytes) in listed {
        inherited.queue.push(waiting(sequence, bytes));
    }
    newest
        .into_iter()
        .rev()
        .for_each(|one| inherited.queue.push(one));
    Ok(inherited)
}

/// Reads a batch. What cannot be read of it is kept aside; `None`: there is nothing to be
/// sent of it.
pub(super) fn read(files: &Files, sequence: u64) -> Option<Batch> {
    let content = files.read(sequence).map_err(|error| error.to_string());
    let Replayed { batch, damage } = match content.map(|content| Batch::read(&content)) {
        Ok(Replayed {
            batch: Some(batch), ..
        }) if batch.sequence() != sequence => unreadable(format!(
            "expected number {sequence}, found {}",
            batch.sequence()
        )),
        Ok(replayed) => replayed,
        Err(what) => unreadable(what),
    };
    if let Some(damage) = damage {
        set_aside(files, sequence, batch.as_ref(), &damage);
    }
    batch
}

/// Keeps a file aside, and what could be read of it as the batch.
fn set_aside(files: &Files, sequence: u64, batch: Option<&Batch>, damage: &Damage) {
    let path = files.path(sequence);
    let aside = files.set_aside(sequence);
    let kept_as = aside.as_ref().map(|path| path.display().to_string());
    tracing::error!(%damage, path = %path.display(), ?kept_as, "a part of the journal of calls cannot be read: what ended here then may be missing in the audit log");
    let kept = batch.map_or(Ok(()), |batch| files.replace(sequence, &batch.lines()));
    if let Err(error) = kept {
        tracing::debug!(%error, "what could be read of it is not kept");
    }
}

fn unreadable(what: String) -> Replayed {
    Replayed {
        batch: None,
        damage: Some(Damage { line: 1, what }),
    }
}

fn waiting(sequence: u64, bytes: u64) -> Waiting {
    Waiting {
        sequence,
        is_inherited: true,
        place: Place::Disk(bytes),
    }
}

fn length(lines: &[u8]) -> u64 {
    u64::try_from(lines.len()).unwrap_or(u64::MAX)
}
