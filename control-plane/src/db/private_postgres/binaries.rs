//! Where the machine has PostgreSQL's server binaries. Debian keeps them out of
//! PATH, in a directory per major version.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::Error;

const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs a server is made with.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
    /// Copies a server; only those that follow another need it.
    pub(super) pg_basebackup: PathBuf,
}

impl Binaries {
    /// Looks in `$PG_BIN_DIR`, the highest `/usr/lib/postgresql/*/bin`, then
    /// PATH. A `$PG_BIN_DIR` without binaries is an error: whoever sets it
    /// wants that one.
    pub(super) fn find() -> Result<Self, Error> {
        if let Some(dir) = env::var_os("PG_BIN_DIR") {
            return Self::in_dir(Path::new(&dir)).ok_or(Error::NoBinaries);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        versions(Path::new(DEBIAN))
            .into_iter()
            .chain(env::split_paths(&path))
            .find_map(|dir| Self::in_dir(&dir))
            .ok_or(Error::NoBinaries)
    }

    fn in_dir(dir: &Path) -> Option<Self> {
        // symlinks resolved, since PostgreSQL finds its libraries relative to itself
        let program = |name| {
            fs::canonicalize(dir.join(name))
                .ok()
                .filter(|path| path.is_file())
        };
        Some(Self {
            initdb: program("initdb")?,
            postgres: program("postgres")?,
            pg_basebackup: dir.join("pg_basebackup"),
        })
    }
}

/// One of PostgreSQL's programs for clients, such as `pg_dump`: where the
/// server's are looked for.
pub fn client_program(name: &str) -> Option<PathBuf> {
    let found = |dir: PathBuf| Some(dir.join(name)).filter(|path| path.is_file());
    if let Some(dir) = env::var_os("PG_BIN_DIR") {
        return found(dir.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    versions(Path::new(DEBIAN))
        .into_iter()
        .chain(env::split_paths(&path))
        .find_map(found)
}

/// The `bin` directories of all installed versions, highest first.
fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9", "15", "17", "common"] {
            fs::create_dir(root.path().join(version)).unwrap();
        }
        let found = versions(root.path());
        let names: Vec<_> = found
            .iter()
            .map(|p| p.parent().unwrap().file_name().unwrap())
            .collect();
        assert_eq!(names, ["17", "15", "9"]);
    }
}
