//! The files of the journal: one for each batch, in a directory of their own.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::tail::{Tail, private, sync_dir};

/// What their names end with.
const SUFFIX: &str = ".calls";
/// What a closed one is written anew as.
const NEW_FILE: &str = "new";
/// What the one that is written is begun as.
const BEGUN_FILE: &str = "begun";
/// What the last one is kept as that could not be read.
pub(super) const DAMAGED_FILE: &str = "damaged";

/// A directory of batches.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:020}{SUFFIX}"))
    }

    /// Number and length of each, in order.
    pub(super) fn list(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            if let Some(sequence) = number.and_then(|number| number.parse().ok()) {
                found.push((sequence, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Begins one with these lines, in the place of one that may be there.
    pub(super) fn begin(&self, sequence: u64, lines: &[u8]) -> io::Result<Tail> {
        let mut tail = Tail::new(self.create(BEGUN_FILE)?);
        tail.append(lines)?;
        fs::rename(self.dir.join(BEGUN_FILE), self.path(sequence))?;
        Ok(tail)
    }

    pub(super) fn read(&self, sequence: u64) -> io::Result<Vec<u8>> {
        fs::read(self.path(sequence))
    }

    /// Makes one last.
    pub(super) fn keep(&self, sequence: u64) -> io::Result<()> {
        File::open(self.path(sequence))?.sync_all()?;
        sync_dir(&self.dir)
    }

    /// Replaces one, or none, by another that lasts.
    pub(super) fn replace(&self, sequence: u64, lines: &[u8]) -> io::Result<()> {
        let mut file = self.create(NEW_FILE)?;
        file.write_all(lines)?;
        file.sync_all()?;
        fs::rename(self.dir.join(NEW_FILE), self.path(sequence))?;
        sync_dir(&self.dir)
    }

    /// Removes one, which may be missing.
    pub(super) fn remove(&self, sequence: u64) -> io::Result<()> {
        match fs::remove_file(self.path(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps one for whoever wants to look into it, and no more as one of the journal.
    pub(super) fn set_aside(&self, sequence: u64) -> io::Result<PathBuf> {
        let aside = self.dir.join(DAMAGED_FILE);
        fs::rename(self.path(sequence), &aside)?;
        sync_dir(&self.dir)?;
        Ok(aside)
    }

    /// A file with nothing in it; and the directory, where that is missing.
    fn create(&self, name: &str) -> io::Result<File> {
        let create = || private().truncate(true).open(self.dir.join(name));
        match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut dir = DirBuilder::new();
                dir.recursive(true).mode(0o700).create(&self.dir)?;
                create()
            }
            created => created,
        }
    }
}
