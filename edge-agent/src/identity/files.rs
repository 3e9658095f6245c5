//! Changes to the files of the identity, each a step that a crash may part from the next.

use std::{io, path::Path};

use super::step;
use crate::files;

/// As [`files::replace`].
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step::reached();
    rename(&files::write_beside(path, bytes)?, path)
}

/// As [`files::rename`].
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step::reached();
    files::rename(from, to)?;
    step::reached();
    Ok(())
}

/// As [`files::remove`].
pub(super) fn remove(path: &Path) -> io::Result<()> {
    step::reached();
    files::remove(path)
}
