//! The files of the journal: one for each batch, in a directory of their own.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    files::{self, private, sync_dir},
    tail::Tail,
};

/// What their names end with.
const SUFFIX: &str = ".calls";
/// What the one that is written is begun as.
const BEGUN_FILE: &str = "begun";
/// What the name of one ends with that is kept because it was damaged.
const DAMAGED_SUFFIX: &str = ".damaged";
/// What the last one is kept as that the control plane has refused for good.
const REFUSED_FILE: &str = "refused";

/// Numbers of a journal are below this, which leaves room for more than any edge has calls:
/// the control plane keeps them as signed ones.
const END: u64 = 1 << 62;

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
        self.dir.join(name_of(sequence))
    }

    /// Number and length of each, in order; what a crash has left half written goes.
    pub(super) fn list(&self) -> io::Result<Vec<(u64, u64)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if files::is_left_over(Path::new(&name)) {
                if let Err(error) = fs::remove_file(entry.path()) {
                    tracing::debug!(%error, path = %entry.path().display(), "what a crash has left stays");
                }
            } else if let Some(sequence) = name.to_str().and_then(sequence_of) {
                found.push((sequence, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Begins one with these lines, in the place of one that may be there.
    pub(super) fn begin(&self, sequence: u64, lines: &[u8]) -> io::Result<Tail> {
        let begun = self.dir.join(BEGUN_FILE);
        let open = || private().truncate(true).open(&begun);
        let mut tail = Tail::new(files::in_dir(&begun, open)?);
        tail.append(lines)?;
        fs::rename(begun, self.path(sequence))?;
        Ok(tail)
    }

    /// What is in one; `None`: it is missing.
    pub(super) fn read(&self, sequence: u64) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(sequence);
        files::read(&path).map_err(files::about(&path))
    }

    /// Makes one last.
    pub(super) fn keep(&self, sequence: u64) -> io::Result<()> {
        File::open(self.path(sequence))?.sync_all()?;
        sync_dir(&self.dir)
    }

    /// Replaces one, or none, by another that lasts.
    pub(super) fn replace(&self, sequence: u64, lines: &[u8]) -> io::Result<()> {
        files::replace(&self.path(sequence), lines)
    }

    /// Removes one, which may be missing.
    pub(super) fn remove(&self, sequence: u64) -> io::Result<()> {
        match fs::remove_file(self.path(sequence)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps a damaged one for whoever wants to look into it, and no more as one of the
    /// journal; beside those that were damaged before.
    pub(super) fn set_damaged_aside(&self, sequence: u64) -> io::Result<PathBuf> {
        let aside = self.free_aside(sequence)?;
        files::rename(&self.path(sequence), &aside)?;
        Ok(aside)
    }

    /// Likewise, and has `lines` in its place; where that fails it is as it was.
    pub(super) fn keep_damaged(
        &self,
        sequence: u64,
        content: &[u8],
        lines: &[u8],
    ) -> io::Result<PathBuf> {
        let aside = self.free_aside(sequence)?;
        files::replace(&aside, content)?;
        self.replace(sequence, lines)?;
        Ok(aside)
    }

    fn free_aside(&self, sequence: u64) -> io::Result<PathBuf> {
        let mut again: u32 = 0;
        let mut aside = self.damaged(sequence, again);
        while aside.try_exists()? {
            again += 1;
            aside = self.damaged(sequence, again);
        }
        Ok(aside)
    }

    /// Keeps one aside that was refused, in the place of the one before.
    pub(super) fn set_refused_aside(&self, sequence: u64) -> io::Result<()> {
        files::rename(&self.path(sequence), &self.refused())
    }

    /// Where the one that was refused last is kept.
    pub(super) fn refused(&self) -> PathBuf {
        self.dir.join(REFUSED_FILE)
    }

    /// Where one is kept that was damaged; `again`: so often before.
    pub(super) fn damaged(&self, sequence: u64, again: u32) -> PathBuf {
        let before = match again {
            0 => String::new(),
            again => format!("-{again}"),
        };
        self.dir
            .join(format!("{sequence:020}{before}{DAMAGED_SUFFIX}"))
    }
}

/// The number of a file of this name, if it is one of the journal's.
fn sequence_of(name: &str) -> Option<u64> {
    let sequence = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (sequence < END && name == name_of(sequence)).then_some(sequence)
}

fn name_of(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_journal_would_call_so_is_one_of_its_files() {
        for sequence in [0, 1, END - 1] {
            assert_eq!(sequence_of(&name_of(sequence)), Some(sequence));
        }
        let beyond = name_of(END);
        let others = [
            "1.calls",
            "+0000000000000000001.calls",
            "00000000000000000001.new",
            "",
            &beyond,
        ];
        for name in others {
            assert_eq!(sequence_of(name), None, "{name}");
        }
    }
}
