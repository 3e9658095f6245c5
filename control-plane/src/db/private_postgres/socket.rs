//! Where the server's socket is. The path of a Unix socket has at most 107
//! bytes, and data directories are often longer than that leaves room for.

use std::{
    env, fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::{Path, PathBuf},
};

use super::{Error, account::Account, directory::private_dir};

/// `sizeof(sun_path)`, less the final NUL.
const MAX_PATH: usize = 107;
/// What PostgreSQL calls its socket.
const NAME: &str = ".s.PGSQL.5432";
/// Directories of ours in the system's temporary directory.
const PREFIX: &str = "authguardian-";
/// So many names are tried in the temporary directory.
const ATTEMPTS: u32 = 1000;

/// The directory of a socket. Removed when dropped, if it lies in the
/// temporary directory.
#[derive(Debug)]
pub(super) struct SocketDir {
    path: PathBuf,
    link: Option<PathBuf>,
}

impl SocketDir {
    /// Makes `<root>/socket` the directory, or a link to one with a short path.
    pub(super) fn create(root: &Path, account: Account) -> Result<Self, Error> {
        let place = root.join("socket");
        remove(&place);
        let socket = if fits(&place) {
            if !place.is_dir() {
                private_dir(&place)?;
            }
            Self {
                path: place,
                link: None,
            }
        } else {
            let path = create_temporary(&env::temp_dir())?;
            symlink(&path, &place).map_err(Error::io("create", &place))?;
            Self {
                path,
                link: Some(place),
            }
        };
        account.own(&socket.path)?;
        Ok(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            remove(link);
        }
    }
}

fn fits(dir: &Path) -> bool {
    dir.join(NAME).as_os_str().as_bytes().len() <= MAX_PATH
}

/// `mkdir` neither follows a link nor takes what somebody else has put there,
/// so a name that can be guessed does no harm.
fn create_temporary(temp: &Path) -> Result<PathBuf, Error> {
    let pid = std::process::id();
    for attempt in 0..ATTEMPTS {
        let path = temp.join(format!("{PREFIX}{pid}-{attempt}"));
        if !fits(&path) {
            return Err(Error::SocketPathTooLong(path));
        }
        if !path.exists() {
            private_dir(&path)?;
            return Ok(path);
        }
    }
    private_dir(temp).map(|()| temp.into()) // says that it exists
}

/// Removes a link and the directory it leads to, as far as there is one, and
/// it is one of ours with nothing in it but a dead server's socket.
fn remove(link: &Path) {
    let Ok(target) = fs::read_link(link) else {
        return;
    };
    if target
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
    {
        let _ = fs::remove_file(target.join(NAME));
        let _ = fs::remove_file(target.join(format!("{NAME}.lock")));
        let _ = fs::remove_dir(&target);
    }
    let _ = fs::remove_file(link);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_replaced_by_a_short_one_and_cleaned_up() {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();

        let first = SocketDir::create(&long, Account::Own).unwrap();
        let path = first.path().to_owned();
        assert!(fits(&path) && path.is_dir());
        assert_eq!(fs::read_link(long.join("socket")).unwrap(), path);
        std::mem::forget(first); // as if killed

        let second = SocketDir::create(&long, Account::Own).unwrap();
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists() && !long.join("socket").is_symlink());
    }

    #[test]
    fn a_link_to_something_else_is_removed_alone() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(NAME), "").unwrap();
        symlink(&other, root.path().join("socket")).unwrap();
        SocketDir::create(root.path(), Account::Own).unwrap();
        assert!(other.join(NAME).exists());
    }
}
