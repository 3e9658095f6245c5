//! A file that is appended to, for its owner alone, and what makes it last.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

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

/// For writing; made for the owner alone where it is missing.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// A name lasts as what is in the file does.
///
/// # Errors
/// When it may not last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

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
