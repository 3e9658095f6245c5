//! The files of a witness, each replaced whole.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use authguardian_proto::ids::MachineId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    ended::{Left, WrittenLeft},
    kept::{Kept, Written},
    refused::Refused,
};
use crate::tail::{private, sync_dir};

/// Their directory among what the edge keeps.
const DIR: &str = "witness";
/// What is kept of the log that is written to.
const KEPT: &str = "checkpoint.json";
/// What is kept of those that were left.
const ENDED: &str = "ended.json";
/// What is refused now.
const REFUSED: &str = "refused.json";
/// What was refused last and is so no more.
const REFUSED_BEFORE: &str = "refused-before.json";
/// What one is written anew as.
const NEW: &str = "new";

/// The directory of a witness.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

/// What a file has.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// There is none.
    Nothing,
    /// What was written.
    Whole(T),
    /// Something else.
    Damaged(PathBuf),
}

#[derive(Serialize, Deserialize)]
struct Newest {
    /// Whose it is: another machine id is of another enrolment.
    machine_id: MachineId,
    kept: Written,
}

#[derive(Serialize, Deserialize)]
struct Ended {
    logs: Vec<WrittenLeft>,
}

impl Files {
    /// Those in the directory of an edge.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self {
            dir: data_dir.join(DIR),
        }
    }

    /// The newest checkpoint, with the machine that it was kept by.
    pub(super) fn newest(&self) -> io::Result<Found<(MachineId, Kept)>> {
        self.read(KEPT, |newest: Newest| {
            Some((newest.machine_id, newest.kept.read()?))
        })
    }

    /// The logs that were left, in that order.
    pub(super) fn ended(&self) -> io::Result<Found<Vec<Left>>> {
        self.read(ENDED, |ended: Ended| {
            ended.logs.into_iter().map(WrittenLeft::read).collect()
        })
    }

    /// What is refused.
    pub(super) fn refused(&self) -> io::Result<Found<Refused>> {
        self.read(REFUSED, Some)
    }

    pub(super) fn keep(&self, machine_id: MachineId, kept: &Kept) -> io::Result<()> {
        let kept = kept.written();
        self.replace(KEPT, &Newest { machine_id, kept })
    }

    pub(super) fn keep_ended(&self, ended: &[Left]) -> io::Result<()> {
        let logs = ended.iter().map(WrittenLeft::of).collect();
        self.replace(ENDED, &Ended { logs })
    }

    pub(super) fn keep_refused(&self, refused: &Refused) -> io::Result<()> {
        self.replace(REFUSED, refused)
    }

    /// What was refused is so no more.
    pub(super) fn end_refused(&self) -> io::Result<()> {
        let path = self.dir.join(REFUSED);
        match fs::rename(path, self.dir.join(REFUSED_BEFORE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => sync_dir(&self.dir),
        }
    }

    /// Keeps a damaged one for whoever wants to look into it.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let aside = path.with_extension("damaged");
        fs::rename(path, &aside)?;
        sync_dir(&self.dir)?;
        Ok(aside)
    }

    fn read<W: DeserializeOwned, T>(
        &self,
        name: &str,
        read: impl FnOnce(W) -> Option<T>,
    ) -> io::Result<Found<T>> {
        let path = self.dir.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => {
                let detail = format!("cannot read `{}`: {error}", path.display());
                return Err(io::Error::new(error.kind(), detail));
            }
        };
        let written = serde_json::from_slice(&text).ok();
        Ok(written
            .and_then(read)
            .map_or(Found::Damaged(path), Found::Whole))
    }

    fn replace(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        let mut file = self.create()?;
        file.write_all(&serde_json::to_vec_pretty(content)?)?;
        file.sync_all()?;
        fs::rename(self.dir.join(NEW), self.dir.join(name))?;
        sync_dir(&self.dir)
    }

    /// Begins a file that is none of them yet, and the directory with the first.
    fn create(&self) -> io::Result<File> {
        let open = || private().truncate(true).open(self.dir.join(NEW));
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut dir = DirBuilder::new();
                dir.recursive(true).mode(0o700).create(&self.dir)?;
                if let Some(above) = self.dir.parent() {
                    sync_dir(above)?;
                }
                open()
            }
            opened => opened,
        }
    }
}
