//! Where an export is written to.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Seek, SeekFrom, Stdout, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use authguardian_proto::reason::Problem;

use super::resume::{Kept, NoExport};
use crate::cli::{failure::Failure, files::refused};

pub(super) enum Sink {
    Stdout(BufWriter<Stdout>),
    File(ToFile),
}

/// A file that is only appended to, once it was begun.
pub(super) struct ToFile {
    path: PathBuf,
    file: BufWriter<File>,
    /// Bytes that stay.
    length: u64,
    begun: bool,
}

impl Sink {
    /// Opens a file, and looks at what there is to go on from; without one,
    /// stdout.
    pub(super) fn open(path: Option<&Path>, resume: bool) -> Result<(Self, Kept), Failure> {
        let Some(path) = path else {
            return Ok((Self::Stdout(BufWriter::new(io::stdout())), Kept::default()));
        };
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let opened = options.mode(0o600).open(path);
        let mut file = opened.map_err(|error| refused(path, &error))?;
        let kept = if resume {
            let found = Kept::find(&mut file);
            found.map_err(|why| no_export(path, why))?
        } else {
            is_empty(path, &file)?;
            Kept::default()
        };
        let to_file = ToFile {
            path: path.to_owned(),
            file: BufWriter::new(file),
            length: kept.length,
            begun: false,
        };
        Ok((Self::File(to_file), kept))
    }

    /// Cuts off what does not stay. Until then the file is as it was.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.with(|to| {
            let file = to.file.get_mut();
            file.set_len(to.length)?;
            file.seek(SeekFrom::End(0))?;
            to.begun = true;
            Ok(())
        })
    }

    pub(super) fn write(&mut self, line: &str) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => Ok(out.write_all(line.as_bytes())?),
            Self::File(_) => self.with(|to| to.file.write_all(line.as_bytes())),
        }
    }

    /// Hands what was written to the system.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => Ok(out.flush()?),
            Self::File(_) => self.with(|to| to.file.flush()),
        }
    }

    /// All was written: in a file it is on the disk when this returns.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.with(|to| to.file.get_ref().sync_all())
    }

    /// Whether there is a file to go on with.
    pub(super) fn is_begun_file(&self) -> bool {
        matches!(self, Self::File(to) if to.begun)
    }

    /// Does something with the file, where it is one.
    fn with(&mut self, act: impl FnOnce(&mut ToFile) -> io::Result<()>) -> Result<(), Failure> {
        match self {
            Self::Stdout(_) => Ok(()),
            Self::File(to) => act(to).map_err(|error| refused(&to.path, &error)),
        }
    }
}

/// What is there is not written over.
fn is_empty(path: &Path, file: &File) -> Result<(), Failure> {
    let metadata = file.metadata().map_err(|error| refused(path, &error))?;
    if metadata.len() == 0 {
        return Ok(());
    }
    let detail = format!(
        "`{}` is there already: go on with `--resume`, or choose another",
        path.display()
    );
    Err(Problem::invalid("file", detail).into())
}

fn no_export(path: &Path, why: NoExport) -> Failure {
    match why {
        NoExport::Unreadable(error) => refused(path, &error),
        NoExport::Other(detail) => {
            let detail = format!("`{}` is no export: {detail}", path.display());
            Problem::invalid("file", detail).into()
        }
    }
}
