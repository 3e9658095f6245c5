//! What an edge has kept, read without it.

use std::{io, path::Path};

use super::{
    Kept, Left,
    files::{Files, Found},
};

/// What an edge has kept, as its directory says.
#[derive(Debug)]
pub struct Archive {
    /// Of the log that is written to.
    pub kept: Option<Kept>,
    /// Of those that were left, in that order.
    pub ended: Vec<Left>,
}

impl Archive {
    /// Reads what the edge of a directory has kept, whether it runs or not.
    ///
    /// # Errors
    /// When a file cannot be read, or is damaged.
    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let files = Files::of(data_dir);
        let kept = whole(files.newest()?)?.map(|(_, kept)| kept);
        let ended = whole(files.ended()?)?.unwrap_or_default();
        Ok(Self { kept, ended })
    }
}

fn whole<T>(found: Found<T>) -> io::Result<Option<T>> {
    match found {
        Found::Nothing => Ok(None),
        Found::Whole(found) => Ok(Some(found)),
        Found::Damaged(path) => {
            let detail = format!("`{}` is damaged", path.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, detail))
        }
    }
}
