//! How one task writes into the journal.

use std::{borrow::Cow, io};

use authguardian_proto::ids::TaskId;

use super::{journal::Journal, record::Record};

/// A task's number in the journal, and the lines that it is about to write.
#[derive(Debug, Default)]
pub(super) struct Pen {
    /// 0: none yet.
    number: u32,
    /// Whether the journal says whose number that is.
    pub(super) is_named: bool,
    /// In which writing-anew of the journal all of the task has been written.
    pub(super) generation: u64,
    buffer: Vec<u8>,
}

impl Pen {
    /// Of a task that the journal knows.
    pub(super) fn of(number: u32) -> Self {
        Self {
            number,
            is_named: true,
            ..Self::default()
        }
    }

    /// The task's number.
    pub(super) fn number(&mut self, journal: &Journal) -> u32 {
        if self.number == 0 {
            self.number = journal.next_number();
        }
        self.number
    }

    /// Writes lines with one call. Where the journal ends then.
    ///
    /// # Errors
    /// When it cannot be written: then nothing of it was.
    pub(super) fn write<'r>(
        &mut self,
        journal: &Journal,
        (task, unit): (&TaskId, &str),
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> io::Result<u64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        if !self.is_named {
            name(self.number(journal), task, unit).write(&mut buffer);
        }
        for record in records {
            record.write(&mut buffer);
        }
        let written = journal.append(&buffer, self);
        self.buffer = buffer;
        written
    }
}

/// The line that says whose a number is.
pub(super) fn name<'a>(number: u32, task: &'a TaskId, unit: &'a str) -> Record<'a> {
    Record::Task {
        t: number,
        name: Cow::from(task.as_str()),
        unit: Cow::from(unit),
    }
}
