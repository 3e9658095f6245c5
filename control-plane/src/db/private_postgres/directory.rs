//! The directory a private server lives in: who holds it, and what an earlier
//! server may have left in it.
//!
//! The lock is an `flock` on an open file, so it goes with its holder even
//! when that is killed; a postmaster does not: told by the kernel that its
//! parent has died, it still breaks off sessions and writes a checkpoint. So
//! having the lock means that no other control plane is here, and
//! [`Directory::wait_until_free`] then waits for the server of a dead one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Error;

/// How often a condition is looked at.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// How long a killed process may take to let go of the directory: `kill -9`
/// returns before all its threads have ended and its files are closed.
const DYING: Duration = Duration::from_secs(2);

/// As much of the log as an error shows.
const TAIL_BYTES: u64 = 2000;
/// A log longer than this at a start is set aside.
const LOG_BYTES: u64 = 16 << 20;

/// A directory that this process holds.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// Held until dropped.
    _lock: File,
}

impl Directory {
    /// Makes the directory where it is missing, and takes hold of it.
    pub(super) fn hold(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::io("create", root))?;
        let root = fs::canonicalize(root).map_err(Error::io("resolve", root))?;
        let path = root.join("lock");
        let lock = private_file(&path)?;
        let locked = poll(DYING, || match lock.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        })?;
        if locked.is_none() {
            return Err(Error::InUse(root));
        }
        if rustix::process::geteuid().is_root() {
            // for the account that the server runs as; what is inside has modes of its own
            set_mode(&root, 0o711)?;
        }
        Ok(Self { root, _lock: lock })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// PGDATA.
    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join("cluster")
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// The log, to be appended to, and its present length.
    pub(super) fn open_log(&self) -> Result<(File, u64), Error> {
        let path = self.log_path();
        if fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
            fs::rename(&path, self.root.join("server.log.old"))
                .map_err(Error::io("rename", &path))?;
        }
        let log = private_file(&path)?;
        let length = log.metadata().map_err(Error::io("look at", &path))?.len();
        Ok((log, length))
    }

    /// The end of the log, from `start` at the earliest.
    pub(super) fn log_tail(&self, start: u64) -> String {
        let read = || {
            let mut file = File::open(self.log_path())?;
            let from = start.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
            file.seek(SeekFrom::Start(from))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&tail).trim_end().to_owned())
        };
        read().unwrap_or_default()
    }

    /// An empty directory to make a cluster in, beside where it will be. What
    /// starts that were killed have left is removed, as far as their initdb is
    /// not itself still at it.
    pub(super) fn new_cluster(&self) -> Result<PathBuf, Error> {
        let entries = fs::read_dir(&self.root).map_err(Error::io("read", &self.root))?;
        for entry in entries.flatten() {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("initializing.")
            {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = self
            .root
            .join(format!("initializing.{}", std::process::id()));
        private_dir(&path)?;
        Ok(path)
    }

    /// Removes the cluster: the copy of another that goes on without it.
    pub(super) fn remove_cluster(&self) -> Result<(), Error> {
        let cluster = self.cluster();
        match fs::remove_dir_all(&cluster) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", cluster)(source))
            }
            _ => Ok(()),
        }
    }

    /// Puts a complete cluster in its place, durably.
    pub(super) fn install_cluster(&self, made: &Path) -> Result<(), Error> {
        fs::rename(made, self.cluster()).map_err(Error::io("rename", made))?;
        let sync = File::open(&self.root).and_then(|root| root.sync_all());
        sync.map_err(Error::io("sync", &self.root))
    }

    /// Waits until no process of an earlier server is left.
    ///
    /// Then a `postmaster.pid` whose process id is alive belongs to somebody
    /// else by now, and is removed, since PostgreSQL would refuse to start; in
    /// every other case the file stays, because PostgreSQL deals with it
    /// better: it also knows the old shared memory.
    pub(super) fn wait_until_free(&self, limit: Duration) -> Result<(), Error> {
        let cluster = self.cluster();
        let free = poll(limit, || Ok(self.resident().is_none().then_some(())))?;
        if let (None, Some(pid)) = (free, self.resident()) {
            return Err(Error::StillRunning {
                pid,
                cluster,
                waited: limit,
            });
        }
        let path = cluster.join("postmaster.pid");
        match postmaster(&cluster) {
            Some(pid) if Path::new(&format!("/proc/{pid}")).exists() => {
                fs::remove_file(&path).map_err(Error::io("remove", path))
            }
            _ => Ok(()),
        }
    }

    /// A process of a server of this cluster, which all have it as their working
    /// directory. In a container root may not be allowed to look at that; then
    /// the postmaster alone is looked for. A dead process that nobody has reaped
    /// (PID 1 of a container may not care) has no working directory any more.
    fn resident(&self) -> Option<u32> {
        let cluster = self.cluster();
        let postmaster = postmaster(&cluster);
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| {
            is_postgres(*pid)
                && match fs::read_link(format!("/proc/{pid}/cwd")) {
                    Ok(cwd) => cwd == cluster,
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                        Some(*pid) == postmaster
                    }
                    Err(_) => false,
                }
        })
    }
}

/// The process id in a cluster's `postmaster.pid`.
fn postmaster(cluster: &Path) -> Option<u32> {
    fs::read_to_string(cluster.join("postmaster.pid"))
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}

fn is_postgres(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "postgres")
}

/// Looks until there is something or the time is up.
pub(super) fn poll<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    let mut waited = Duration::ZERO;
    loop {
        let found = look()?;
        if found.is_some() || waited >= limit {
            return Ok(found);
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
}

/// Makes a directory that only its owner enters.
pub(super) fn private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .map_err(Error::io("create", path))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(Error::io("change the mode of", path))
}

fn private_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options.open(path).map_err(Error::io("open", path))
}
