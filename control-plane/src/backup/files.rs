//! Files of a backup: for this user only, and on the disk when they are told to
//! be there.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::tool::failed;
use crate::error::{Error, Result};

/// Read at once while a digest is made.
const PIECE: usize = 1 << 20;

/// A directory that becomes a backup, or is removed.
pub(super) struct Draft {
    pub(super) directory: PathBuf,
    output: PathBuf,
    kept: bool,
}

impl Draft {
    /// Beside `output`, which must not be there, or be empty.
    pub(super) fn begin(output: &Path) -> Result<Self> {
        let refused = |detail: String| Error::invalid("output", detail);
        let name = output
            .file_name()
            .ok_or_else(|| refused("expected the path of a directory".to_owned()))?;
        match fs::read_dir(output).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => {
                let detail = format!("`{}` is not empty; name another", output.display());
                return Err(refused(detail));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(format!("`{}`: {error}", output.display()))),
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let directory = output.with_file_name(partial);
        let made = DirBuilder::new().mode(0o700).create(&directory);
        made.map_err(|error| {
            let shown = directory.display();
            refused(if error.kind() == io::ErrorKind::AlreadyExists {
                format!("`{shown}` is there, of a backup that goes on or was broken off; remove it if none goes on")
            } else {
                format!("cannot make `{shown}`: {error}")
            })
        })?;
        Ok(Self {
            directory,
            output: output.to_owned(),
            kept: false,
        })
    }

    /// Gives it its name, durably.
    pub(super) fn keep(mut self) -> Result<()> {
        let rename = || -> io::Result<()> {
            sync(&self.directory)?;
            fs::rename(&self.directory, &self.output)?;
            let parent = self.output.parent().filter(|p| !p.as_os_str().is_empty());
            sync(parent.unwrap_or(Path::new(".")))
        };
        rename().map_err(|error| refused(&self.output, &error))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // what cannot be removed is told of by the next backup
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Makes an empty file that another program then fills.
pub(super) fn make_empty(path: &Path) -> Result<()> {
    private(path)
        .map(drop)
        .map_err(|error| refused(path, &error))
}

/// Writes a new file and waits until it is on the disk.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = private(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| refused(path, &error))
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// SHA-256 (hexadecimal) and length of a file, which is on the disk afterwards.
pub(super) async fn digest(path: PathBuf) -> Result<(String, u64)> {
    let digested = tokio::task::spawn_blocking(move || {
        digest_of(&path).map_err(|error| refused(&path, &error))
    });
    digested.await.map_err(Error::internal)?
}

fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    file.sync_all()?;
    let (mut digest, mut length) = (Context::new(&SHA256), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        digest.update(piece.get(..read).unwrap_or_default());
        length += u64::try_from(read).unwrap_or_default();
    }
    let mut text = String::with_capacity(64);
    for byte in digest.finish().as_ref() {
        let _ = write!(text, "{byte:02x}"); // a String takes whatever it is given
    }
    Ok((text, length))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// What the system said of a path.
pub(super) fn refused(path: &Path, error: &io::Error) -> Error {
    failed(format!("`{}`: {error}", path.display()))
}
