//! A PostgreSQL server of our own, for `control-plane dev` and for tests: made
//! from the machine's binaries in a directory of its own, durable, reachable
//! over a Unix socket only, and gone when the process that started it is gone,
//! however that ended.
//!
//! ```text
//! <data_dir>/lock              flock of the process that holds the directory
//! <data_dir>/cluster/          PGDATA
//! <data_dir>/socket            the socket's directory, or a link to it where this path is too long
//! <data_dir>/server.log        what initdb and the server say
//! <data_dir>/initializing.<n>  a cluster being made, renamed when it is complete
//! ```
//!
//! The traps are described where they are handled: who the server runs as
//! (`account`), what an earlier server may have left (`directory`), and how
//! it dies with its parent (`account`, `server`).

mod account;
mod binaries;
mod directory;
mod error;
mod server;
mod socket;

use std::{path::PathBuf, process::ExitStatus, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

use self::server::Server;
pub use self::{binaries::client_program, error::Error};
use super::servers::streaming;

/// The database that [`PrivatePostgres::url`] leads to.
pub const DATABASE: &str = "authguardian";

/// How long a fast shutdown may take before it becomes an immediate one, which
/// loses nothing but makes the next start recover.
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// Standbys of the quorum that stream.
const STREAMING: &str = concat!("SELECT ", streaming!());

const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// What a private server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server that it copies at each start, and then follows.
    pub follows: Option<Follows>,
    /// The directory it lives in and has for itself; made when missing. As root
    /// it should be reachable for other users (every parent `o+x`): the server
    /// refuses to run as root.
    pub data_dir: PathBuf,
    /// PostgreSQL's `max_connections`.
    pub max_connections: u16,
    /// How long an earlier server of the directory may take to end, and how
    /// long this one may take to recover and get ready.
    pub start_timeout: Duration,
}

impl Options {
    /// The defaults for a directory: 200 connections, 60 s.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            follows: None,
            data_dir: data_dir.into(),
            max_connections: 200,
            start_timeout: Duration::from_mins(1),
        }
    }
}

/// How a standby follows another private server.
#[derive(Clone, Debug)]
pub struct Follows {
    socket_dir: String,
    name: String,
}

/// A running private server. Dropping it begins a fast shutdown and does not
/// wait for it; [`PrivatePostgres::stop`] waits.
#[derive(Debug)]
pub struct PrivatePostgres {
    server: Server,
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl PrivatePostgres {
    /// Starts the server of a directory: makes the cluster at the first start,
    /// recovers it at any later one, and returns once it takes connections.
    /// Cancelling it stops what it has started.
    ///
    /// # Errors
    /// [`Error::NoBinaries`] when PostgreSQL is not installed, [`Error::InUse`]
    /// when another process holds the directory, [`Error::Failed`] with the end
    /// of the server's log when it does not come up.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let follows = options.follows.is_some();
        let (server, exited) = server::start(options).await?;
        let this = Self { server, exited };
        if !follows {
            this.create_database().await?;
        }
        Ok(this)
    }

    /// For the [`Options`] of a server that is to follow this one, under a name
    /// of letters and digits. It is copied anew at each start, so a primary
    /// that was elsewhere meanwhile does no harm.
    pub fn followed_as(&self, name: &str) -> Follows {
        Follows {
            socket_dir: self.server.socket_dir.clone(),
            name: name.to_owned(),
        }
    }

    /// Has so many of the named standbys confirm every commit from now on; with
    /// none, waits for none. Returns when as many stream.
    ///
    /// # Errors
    /// When the server refuses, or they do not stream within a minute.
    pub async fn confirmed_by(&self, count: usize, standbys: &[String]) -> Result<(), Error> {
        let mut maintenance = PgConnection::connect(&self.url_of("postgres")).await?;
        let quorum = match count {
            0 => String::new(),
            count => format!("ANY {count} ({})", standbys.join(", ")),
        };
        let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{quorum}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set))
            .execute(&mut maintenance)
            .await?;
        sqlx::query("SELECT pg_reload_conf()")
            .execute(&mut maintenance)
            .await?;
        let wanted = i64::try_from(count).unwrap_or(i64::MAX);
        let streaming = async {
            while sqlx::query_scalar::<_, i64>(STREAMING)
                .fetch_one(&mut maintenance)
                .await?
                < wanted
            {
                tokio::time::sleep(directory::POLL).await;
            }
            Ok::<_, Error>(())
        };
        tokio::time::timeout(STOP_TIMEOUT, streaming)
            .await
            .unwrap_or(Err(Error::NoStandbys))?;
        maintenance.close().await?;
        Ok(())
    }

    /// The URL of the database [`DATABASE`], for sqlx and libpq.
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The URL of another database of this server.
    pub fn url_of(&self, database: &str) -> String {
        let host = utf8_percent_encode(&self.server.socket_dir, PATH);
        let database = utf8_percent_encode(database, PATH);
        format!("postgres://postgres@localhost/{database}?host={host}")
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> u32 {
        self.server.pid
    }

    /// Waits until the server has ended, for whatever reason; `None` when its
    /// status could not be learnt. By then the directory is free again.
    pub async fn exited(&self) -> Option<ExitStatus> {
        let mut exited = self.exited.clone();
        // an error means that the supervising thread has ended, and the server before it
        exited
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|status| *status)
    }

    /// Fast shutdown: breaks off sessions, writes a checkpoint, waits until the
    /// server has gone.
    pub async fn stop(self) {
        self.server.signal(Signal::INT);
        if tokio::time::timeout(STOP_TIMEOUT, self.exited())
            .await
            .is_err()
        {
            tracing::warn!(
                pid = self.pid(),
                "private PostgreSQL does not shut down, ending it at once"
            );
            self.server.signal(Signal::QUIT);
            self.exited().await;
        }
    }

    /// Not done by initdb, and idempotent, so that a start that was killed in
    /// between is made good by the next.
    async fn create_database(&self) -> Result<(), Error> {
        let mut maintenance = PgConnection::connect(&self.url_of("postgres")).await?;
        let exists = sqlx::query("SELECT FROM pg_database WHERE datname = $1")
            .bind(DATABASE)
            .fetch_optional(&mut maintenance)
            .await?;
        if exists.is_none() {
            sqlx::query("CREATE DATABASE authguardian")
                .execute(&mut maintenance)
                .await?;
        }
        maintenance.close().await?;
        Ok(())
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.server.signal(Signal::INT);
    }
}
