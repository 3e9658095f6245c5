//! What processes before this one have left.

use std::io;

use uuid::Uuid;

use super::{
    batch::{Batch, Replayed},
    files::Files,
    waiting::{Place, Queue, Waiting},
};
use crate::tail::Damage;

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
/// When they cannot be listed, or the last one not be read.
pub(super) fn inherit(files: &Files) -> io::Result<Inherited> {
    let mut inherited = Inherited::default();
    let mut listed = files.list()?;
    inherited.highest = listed.last().map_or(0, |(sequence, _)| *sequence);
    let mut newest = Vec::new();
    // the last one was being written; those before it are read when they are sent
    while inherited.id.is_none()
        && let Some((sequence, _)) = listed.pop()
    {
        let batch = read(files, sequence)?;
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

/// Reads a batch. What nobody wrote of it is kept aside; `None`: there is nothing to be sent
/// of it.
///
/// # Errors
/// When it cannot be read, or none of it could be and it cannot be kept aside: it stays.
pub(super) fn read(files: &Files, sequence: u64) -> io::Result<Option<Batch>> {
    let Some(content) = files.read(sequence)? else {
        let path = files.path(sequence);
        tracing::error!(path = %path.display(), "a part of the journal of calls is missing: what ended here then may be missing in the audit log");
        return Ok(None);
    };
    let mut replayed = Batch::read(&content);
    if let Some(found) = replayed.batch.as_ref().map(Batch::sequence)
        && found != sequence
    {
        let what = format!("expected number {sequence}, found {found}");
        replayed = Replayed {
            batch: None,
            damage: Some(Damage { line: 1, what }),
        };
    }
    let Replayed { batch, damage } = replayed;
    let Some(damage) = damage else {
        return Ok(batch);
    };
    let path = files.path(sequence);
    let aside = match &batch {
        None => files.set_damaged_aside(sequence)?,
        Some(batch) => match files.keep_damaged(sequence, &content, &batch.lines()) {
            Ok(aside) => aside,
            Err(error) => {
                // what can be read of it can be read again
                tracing::warn!(%error, %damage, path = %path.display(), "a part of the journal of calls is damaged, and cannot be kept aside");
                return Ok(Some(batch.clone()));
            }
        },
    };
    tracing::error!(%damage, path = %path.display(), aside = %aside.display(), "a part of the journal of calls is damaged: what ended here then may be missing in the audit log");
    Ok(batch)
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
