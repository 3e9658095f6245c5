//! The file that is written.

use std::{collections::HashMap, io};

use super::{
    batch::{Batch, Now},
    call::{self, Noted},
    files::Files,
    record::{Head, Record},
};
use crate::tail::Tail;

/// Most different calls of a batch; one of them may be those that did not fit.
pub(super) const BATCH: usize = 1000;

/// So long a file is not written further.
pub(super) const LONG: u64 = 1024 * 1024;

/// Seconds by which the wall clock may drift before that is written down.
const DRIFT: u64 = 1;

/// The file that is written, and what is in it.
#[derive(Debug)]
pub(super) struct Segment {
    batch: Batch,
    numbers: HashMap<Noted, u32>,
    /// Since which second there were calls that did not fit.
    beyond_since: Option<u64>,
    /// Lines that are not written yet.
    buffer: Vec<u8>,
    /// `None`: not all of it is in its file, which is not written any more.
    tail: Option<Tail>,
}

impl Segment {
    /// Has no file yet.
    pub(super) fn new(head: Head) -> Self {
        Self {
            batch: Batch::new(head),
            numbers: HashMap::new(),
            beyond_since: None,
            buffer: Vec::new(),
            tail: None,
        }
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// What it holds, and how long its file is that says as much.
    pub(super) fn close(self) -> (Batch, Option<u64>) {
        let written = self.tail.map(|tail| tail.end());
        (self.batch, written)
    }

    /// Whether a call can be counted in it.
    pub(super) fn has_room_for(&self, noted: &Noted, second: u64) -> bool {
        let is_counted = |number: &u32| self.batch.counts.contains_key(&(*number, second));
        noted.is_none()
            || self.batch.len() < BATCH - 1
            || self.numbers.get(noted).is_some_and(is_counted)
    }

    /// Counts calls, for which there is room. To be written.
    pub(super) fn add(&mut self, noted: Noted, mut second: u64, count: u64, now: &Now) {
        let head = &mut self.batch.head;
        if head.offset.abs_diff(now.offset) > DRIFT {
            head.offset = now.offset;
            Record::Offset(now.offset).write(&mut self.buffer);
        }
        if noted.is_none() {
            second = *self.beyond_since.get_or_insert(second);
        }
        let number = self.number(noted);
        let counted = self.batch.counts.entry((number, second)).or_default();
        *counted = counted.saturating_add(count);
        Record::Add(number, second, count).write(&mut self.buffer);
    }

    fn number(&mut self, noted: Noted) -> u32 {
        if let Some(number) = self.numbers.get(&noted) {
            return *number;
        }
        let kind = call::kind(&noted);
        let number = u32::try_from(self.numbers.len() + 1).unwrap_or(u32::MAX);
        self.numbers.insert(noted, number);
        Record::Call(number, kind.clone()).write(&mut self.buffer);
        self.batch.kinds.push(kind);
        number
    }

    /// Writes what was added with one write.
    ///
    /// # Errors
    /// When it cannot be written; then the file is not written any more.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let written = match &mut self.tail {
            Some(tail) if !self.buffer.is_empty() => tail.append(&self.buffer),
            _ => Ok(()),
        };
        self.buffer.clear();
        if written.is_err() {
            self.tail = None;
        }
        written
    }

    /// Begins its file anew, with what is in it by now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write_whole(&mut self, files: &Files) -> io::Result<()> {
        self.buffer.clear();
        self.tail = None;
        let lines = self.batch.lines();
        self.tail = Some(files.begin(self.batch.sequence(), &lines)?);
        Ok(())
    }

    /// Whether all that was written is in its file.
    pub(super) fn is_whole(&self) -> bool {
        self.tail.is_some()
    }

    /// Whether its file is long enough.
    pub(super) fn is_long(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.end() > LONG)
    }

    /// It is of another journal; its file is to be written whole.
    pub(super) fn rename(&mut self, id: uuid::Uuid) {
        self.batch.head.id = id;
    }

    #[cfg(test)]
    pub(super) fn set_tail(&mut self, tail: Tail) {
        self.tail = Some(tail);
    }
}
