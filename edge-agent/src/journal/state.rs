//! What is counted, and where it is written.

use std::{io, sync::Arc};

use uuid::Uuid;

use super::{
    batch::Now,
    call::{Call, Noted},
    files::Files,
    record::{FORMAT, Head},
    second::Second,
    segment::Segment,
    waiting::{Place, Queue, Waiting},
};

/// What is counted, and what waits to be sent.
#[derive(Debug)]
pub(super) struct State {
    /// Of the journal that is written.
    pub(super) id: Uuid,
    /// The number of the next file.
    next: u64,
    pub(super) current: Segment,
    second: Second,
    pub(super) queue: Queue,
    /// Whether it was said that the journal cannot be written.
    is_failing: bool,
    /// Whether it was said that what waits cannot be read.
    is_unreadable: bool,
}

impl State {
    /// Begins a file of this number.
    pub(super) fn begin(id: Uuid, first: u64, queue: Queue, files: &Files, now: &Now) -> Self {
        let mut state = Self {
            id,
            next: first + 1,
            current: Segment::new(head(id, first, now)),
            second: Second::default(),
            queue,
            is_failing: false,
            is_unreadable: false,
        };
        let written = state.current.write_whole(files);
        state.told(written, files);
        state
    }

    /// Counts a call, and writes it down at once unless there are too many of them.
    pub(super) fn note(&mut self, call: Call, files: &Files, now: &Now) {
        if self.second.number() != now.second {
            self.flush(files, now);
            self.second.begin(now.second);
        }
        if let Some(noted) = self.second.take(call) {
            self.add(noted, now.second, 1, files, now);
            self.write(files, now);
        }
    }

    /// Writes down what was counted and not written.
    pub(super) fn flush(&mut self, files: &Files, now: &Now) {
        let second = self.second.number();
        for (noted, count) in self.second.drain() {
            self.add(noted, second, count, files, now);
        }
        self.write(files, now);
    }

    /// Closes the batch that is counted, if there is something in it, and begins another one.
    pub(super) fn close(&mut self, files: &Files, now: &Now) {
        if self.current.batch().is_empty() {
            return;
        }
        let written = self.current.write();
        self.told(written, files);
        let mut next = Segment::new(head(self.id, self.next, now));
        self.next += 1;
        let written = next.write_whole(files);
        self.told(written, files);
        let (batch, written) = std::mem::replace(&mut self.current, next).close();
        self.queue.push(Waiting {
            sequence: batch.sequence(),
            is_inherited: false,
            place: Place::Memory(Arc::new(batch), written),
        });
    }

    /// Another journal begins with what is counted now.
    pub(super) fn begin_anew(&mut self, id: Uuid, files: &Files) {
        self.id = id;
        self.current.rename(id);
        let written = self.current.write_whole(files);
        self.told(written, files);
    }

    /// Writes what is counted whole, where it could not be written before.
    pub(super) fn mend(&mut self, files: &Files) {
        if !self.current.is_whole() {
            let written = self.current.write_whole(files);
            self.told(written, files);
        }
        if self.is_failing && self.current.is_whole() && self.queue.in_memory().next().is_none() {
            self.is_failing = false;
            tracing::info!(journal = %files.dir().display(), "the journal of calls is written again");
        }
    }

    /// Says once that the journal cannot be written.
    pub(super) fn told(&mut self, written: io::Result<()>, files: &Files) {
        let Err(error) = written else {
            return;
        };
        if !self.is_failing {
            self.is_failing = true;
            tracing::warn!(%error, journal = %files.dir().display(), "the journal of calls cannot be written: what is not in the audit log yet is lost with this process");
        }
    }

    /// Says once that what waits cannot be read.
    pub(super) fn told_of_reading(&mut self, unreadable: Option<&io::Error>) {
        let was_unreadable = std::mem::replace(&mut self.is_unreadable, unreadable.is_some());
        match unreadable {
            Some(error) if !was_unreadable => {
                tracing::error!(%error, "the journal of calls cannot be read: what is in it waits");
            }
            None if was_unreadable => tracing::info!("the journal of calls is read again"),
            _ => {}
        }
    }

    fn add(&mut self, mut noted: Noted, second: u64, count: u64, files: &Files, now: &Now) {
        if !self.current.has_room_for(&noted, second) {
            if self.queue.has_room() {
                self.close(files, now);
            } else {
                noted = None;
            }
        }
        self.current.add(noted, second, count, now);
    }

    fn write(&mut self, files: &Files, now: &Now) {
        let written = self.current.write();
        self.told(written, files);
        if !self.current.is_long() {
            return;
        }
        if self.queue.has_room() {
            self.close(files, now);
        } else {
            let written = self.current.write_whole(files);
            self.told(written, files);
        }
    }
}

fn head(id: Uuid, sequence: u64, now: &Now) -> Head {
    Head {
        format: FORMAT,
        id,
        sequence,
        boot: now.boot.to_string(),
        offset: now.offset,
    }
}
