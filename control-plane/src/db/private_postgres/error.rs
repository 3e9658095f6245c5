//! Why a private server did not start.

use std::{io, path::PathBuf, time::Duration};

/// Why a private server did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is not installed where we look.
    #[error(
        "no PostgreSQL server binaries found; install the Debian package `postgresql`, or set `PG_BIN_DIR` to the directory of `initdb` and `postgres`"
    )]
    NoBinaries,

    /// Standbys do not begin to stream.
    #[error("the standbys do not stream from the primary; see their `server.log`")]
    NoStandbys,

    /// Another live process holds the directory.
    #[error("`{0}` is in use by another process; end that one, or choose another directory")]
    InUse(PathBuf),

    /// A server that nobody holds any more does not end.
    #[error(
        "an earlier PostgreSQL server (process {pid}) is still running in `{cluster}` after {waited:?}; end it with `kill -INT {pid}`"
    )]
    StillRunning {
        /// One of its processes.
        pid: u32,
        /// Its data directory.
        cluster: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },

    /// We are root, no unprivileged user can get at the directory, and user
    /// namespaces are not to be had.
    #[error(
        "PostgreSQL does not run as root, and no other user can reach `{0}`; choose a directory whose parents all have `o+x`"
    )]
    Unreachable(PathBuf),

    /// A path that cannot stand in a connection URL.
    #[error("`{}` is not UTF-8", .0.display())]
    NotUtf8(PathBuf),

    /// The socket's path would be longer than the system allows, in the
    /// temporary directory too.
    #[error("`{0}` is too long a path for a Unix socket; set `TMPDIR` to a shorter directory")]
    SocketPathTooLong(PathBuf),

    /// The file system or the operating system refused something.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file, directory or program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// `initdb` or `postgres` ended before it was ready.
    #[error("`{program}` ended with {status}; the end of `{}`:\n{tail}", log.display())]
    Failed {
        /// Which of the two.
        program: &'static str,
        /// Its exit status, in words.
        status: String,
        /// Where it wrote what it had to say.
        log: PathBuf,
        /// The end of that.
        tail: String,
    },

    /// The server neither got ready nor ended.
    #[error("PostgreSQL was not ready after {waited:?}; the end of `{}`:\n{tail}", log.display())]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// The server's log.
        log: PathBuf,
        /// The end of that.
        tail: String,
    },

    /// The server is up but refused us.
    #[error("the private PostgreSQL server failed a first query: {0}")]
    Query(#[from] sqlx::Error),
}

impl Error {
    /// For `map_err`, with what was being done to what.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
