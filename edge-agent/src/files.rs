//! Files for their owner alone, replaced whole or not at all, and what makes them last.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// What the name of one ends with until it takes another's place.
const NEW: &str = "new";

/// For writing; made for the owner alone where it is missing.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// Makes a directory and its parents, mode 0700, where it is missing; its own name lasts.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_parent(path)
}

/// The content of a file; `None` when it is missing.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Replaces `path` by `bytes`, mode 0600: after a crash the file has the old
/// content or the new, and what was reported as written stays written. Its
/// directory is made where it is missing.
///
/// # Errors
/// When it cannot be written: the old content stays.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    rename(&write_beside(path, bytes)?, path)
}

/// Writes what is to take a file's place; where it is.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let beside = path.with_extension(NEW);
    // one that a crash has left is nobody's, whatever its mode is
    remove_name(&beside)?;
    let mut file = in_dir(path, || private().create_new(true).open(&beside))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(beside)
}

/// Opens a file, and makes the directory of `path` where it is missing.
///
/// # Errors
/// As opening it.
pub(crate) fn in_dir(path: &Path, open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    match (open(), path.parent()) {
        (Err(error), Some(dir)) if error.kind() == io::ErrorKind::NotFound => {
            make_private_dir(dir)?;
            open()
        }
        (opened, _) => opened,
    }
}

/// Renames within one directory, durably.
///
/// # Errors
/// When it has the old name, or may have it again after a crash.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Removes a file that may be missing, durably.
///
/// # Errors
/// When it is there, or may be there again after a crash.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_name(path)?;
    // also where it was missing: a try before this one may have come as far
    match sync_parent(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        synced => synced,
    }
}

/// A name lasts as what is in the file does.
///
/// # Errors
/// When it may not last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether a file of this name was to take another's place, and a crash has left it.
pub(crate) fn is_left_over(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == NEW)
}

/// Says of an error which file it is about.
pub(crate) fn about(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

fn remove_name(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        // a bare name is of this directory
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_written_is_for_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("a/b");
        make_private_dir(&private).unwrap();
        make_private_dir(&private).unwrap();
        assert_eq!(mode(&private), 0o700);
        let path = private.join("key");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(mode(&path), 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn what_a_crash_has_left_beside_is_replaced_and_gives_nobody_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        let beside = dir.path().join("state.new");
        fs::write(&beside, "half").unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"whole").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"whole"[..]));
        assert_eq!((mode(&path), beside.exists()), (0o600, false));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        replace(&path, b"old").unwrap();
        fs::create_dir(dir.path().join("state.new")).unwrap();
        replace(&path, b"new").unwrap_err();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"old"[..]));
        // a directory is there and cannot be read as a file: it is not missing
        let unreadable = read(dir.path()).unwrap_err();
        let named = about(dir.path())(unreadable).to_string();
        assert!(named.contains(&dir.path().display().to_string()), "{named}");
    }
}
