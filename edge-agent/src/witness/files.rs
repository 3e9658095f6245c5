//! The files of a witness, each replaced whole.

use std::{
    io,
    path::{Path, PathBuf},
};

use authguardian_proto::ids::MachineId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    ended::{Left, WrittenLeft},
    kept::{Kept, Written},
    refused::Refused,
};
use crate::files;

/// Their directory among what the edge keeps.
const DIR: &str = "witness";
/// What is kept of the log that is written to.
const KEPT: &str = "checkpoint.json";
/// What is kept of those that were left.
const ENDED: &str = "ended.json";
/// What is refused now.
const REFUSED: &str = "refused.json";
/// So many refusals of one kind are kept as evidence, each by another checkpoint that was kept.
const MAX_EVIDENCE: u32 = 16;

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

    /// Keeps a refusal for good, unless one is that is like it, or there are too many;
    /// whether one is that is like it.
    pub(super) fn keep_evidence(&self, refused: &Refused) -> io::Result<bool> {
        for number in 1..=MAX_EVIDENCE {
            let name = format!("refused-{}-{number}.json", refused.kind);
            match self.read(&name, Some)? {
                Found::Nothing => return self.replace(&name, refused).map(|()| false),
                Found::Whole(before) if refused.is_like(&before) => return Ok(true),
                Found::Whole(_) | Found::Damaged(_) => {}
            }
        }
        Ok(false)
    }

    /// Nothing is refused any more.
    pub(super) fn end_refused(&self) -> io::Result<()> {
        files::remove(&self.dir.join(REFUSED))
    }

    /// Keeps a damaged one for whoever wants to look into it.
    pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
        let aside = path.with_extension("damaged");
        files::rename(path, &aside)?;
        Ok(aside)
    }

    fn read<W: DeserializeOwned, T>(
        &self,
        name: &str,
        read: impl FnOnce(W) -> Option<T>,
    ) -> io::Result<Found<T>> {
        let path = self.dir.join(name);
        let Some(text) = files::read(&path).map_err(files::about(&path))? else {
            return Ok(Found::Nothing);
        };
        let written = serde_json::from_slice(&text).ok();
        Ok(written
            .and_then(read)
            .map_or(Found::Damaged(path), Found::Whole))
    }

    fn replace(&self, name: &str, content: &impl Serialize) -> io::Result<()> {
        files::replace(&self.dir.join(name), &serde_json::to_vec_pretty(content)?)
    }
}
