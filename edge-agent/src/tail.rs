//! A file that is appended to, line by line.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use serde::Serialize;

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct Tail {
    file: Arc<File>,
    end: u64,
    /// There may be something after its end that was not to be.
    is_torn: bool,
}

impl Tail {
    /// Of a file in which nothing is.
    pub(crate) fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            end: 0,
            is_torn: false,
        }
    }

    /// Goes on after so many bytes; what stands behind them is taken away before the first
    /// append.
    pub(crate) fn after(file: File, end: u64) -> Self {
        Self {
            is_torn: true,
            end,
            ..Self::new(file)
        }
    }

    /// Appends with one write; what a failure leaves is taken away before the next.
    ///
    /// # Errors
    /// When it cannot be written: then nothing of it was.
    pub(crate) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.end)?;
            self.is_torn = false;
        }
        if let Err(error) = self.file.write_all_at(lines, self.end) {
            self.is_torn = self.file.set_len(self.end).is_err();
            return Err(error);
        }
        self.end += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Where it ends, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// To be waited for.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }
}

/// A line that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct Damage {
    /// From 1.
    pub(crate) line: usize,
    /// What was expected there.
    pub(crate) what: String,
}

/// Appends a record as one line of JSON.
pub(crate) fn write_line(record: &impl Serialize, buffer: &mut Vec<u8>) {
    // writing to memory does not fail, and there is nothing in records that is not JSON
    let _ = serde_json::to_writer(&mut *buffer, record);
    buffer.push(b'\n');
}

/// Hands on each whole line without its end, from number 0 on, until one is refused. The last
/// line of a process that was killed may not be whole, and is not handed on. How many bytes
/// were taken.
///
/// # Errors
/// Where it was refused.
pub(crate) fn read_lines<'a>(
    content: &'a [u8],
    mut take: impl FnMut(usize, &'a [u8]) -> Result<(), String>,
) -> Result<u64, Damage> {
    let mut taken = 0;
    for (at, line) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        take(at, text).map_err(|what| Damage { line: at + 1, what })?;
        taken += u64::try_from(line.len()).unwrap_or(u64::MAX);
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::files::private;

    #[test]
    fn whole_lines_are_read_up_to_one_that_is_refused() {
        let mut lines = Vec::new();
        for number in [1, 2] {
            write_line(&number, &mut lines);
        }
        assert_eq!(lines, b"1\n2\n");
        let read = |content: &[u8], refused: Option<usize>| {
            let mut read = Vec::new();
            let taken = read_lines(content, |at, text| {
                read.push(String::from_utf8(text.to_vec()).unwrap());
                (Some(at) != refused).then_some(()).ok_or("no".to_owned())
            });
            (taken, read.concat())
        };
        assert_eq!(read(b"", None), (Ok(0), String::new()));
        assert_eq!(read(b"1\n2\n3", None), (Ok(4), "12".to_owned()));
        let damage = Damage {
            line: 2,
            what: "no".into(),
        };
        assert_eq!(damage.to_string(), "line 2: no");
        assert_eq!(read(b"1\n2\n3\n", Some(1)), (Err(damage), "12".to_owned()));
    }

    #[test]
    fn what_stands_after_the_end_goes_before_something_is_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, b"one\ntw").unwrap();
        let file = private().open(&path).unwrap();
        let mut tail = Tail::after(file, 4);
        tail.append(b"two\n").unwrap();
        assert_eq!(
            (std::fs::read(&path).unwrap(), tail.end()),
            (b"one\ntwo\n".to_vec(), 8)
        );
    }

    #[test]
    fn what_could_not_be_written_does_not_count() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut tail = Tail::new(full);
        let error = tail.append(b"one\n").unwrap_err();
        assert_eq!((error.kind(), tail.end()), (io::ErrorKind::StorageFull, 0));
    }
}
