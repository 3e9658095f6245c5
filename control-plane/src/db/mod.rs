//! The database: pools, group commit, the write promise, idempotent requests.

mod arrival;
pub mod batch;
pub mod constraint;
pub mod etcd;
pub mod lease;
pub mod pool;
pub mod private_postgres;
pub mod quorum;
pub mod request;
mod retries;
mod servers;
mod wakes;

use std::sync::Arc;

use authguardian_proto::reason::Reason;
pub use lease::Lease;
use pool::Use;
pub use pool::{Pools, Primary};
pub use quorum::{Confirmation, Quorum};
pub use retries::Retries;
use sqlx::{PgConnection, Postgres, Transaction};
pub use wakes::{Wake, Wakes};

use self::etcd::Etcd;
use crate::{
    clock::SharedClock,
    config::Database,
    error::{Error, Result},
};

/// All migrations, in order; see `migrations/README.md`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// The database as services take it.
#[derive(Debug, Clone)]
pub struct Db {
    /// Where connections come from.
    pub pools: Pools,
    /// What a commit has to have reached.
    pub quorum: Arc<Quorum>,
    /// Woken after each commit, so that changes are published without delay.
    pub committed: Arc<Wakes>,
}

impl Db {
    /// Puts pools and promise together.
    pub fn new(pools: Pools, quorum: Arc<Quorum>) -> Self {
        if let Some(standings) = pools.standings() {
            tokio::spawn(note_copies(standings.clone(), Arc::clone(&quorum)));
        }
        Self {
            pools,
            quorum,
            committed: Arc::default(),
        }
    }

    /// Begins a writing transaction.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database or the write quorum cannot be reached.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_on(Use::Writes).await
    }

    /// Begins a transaction on the connections kept for revocations, which a
    /// flood of other writes cannot use up.
    ///
    /// # Errors
    /// As [`Db::begin`].
    pub async fn begin_revocation(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_on(Use::Revocations).await
    }

    /// Commits what has to have reached the write quorum before anybody is
    /// told, and wakes the publisher.
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` when it may or may not have been committed.
    pub async fn commit(&self, tx: Transaction<'_, Postgres>) -> Result<()> {
        self.quorum.commit(tx).await?;
        self.committed.wake(Wake::Streams);
        Ok(())
    }

    /// Commits a batch, wakes the publisher, and leaves what remains to be
    /// waited for: see [`Quorum::commit_batch`].
    ///
    /// # Errors
    /// `OUTCOME_UNKNOWN` when it may or may not have been committed.
    pub async fn commit_batch(&self, tx: Transaction<'static, Postgres>) -> Result<Confirmation> {
        let confirmation = self.quorum.commit_batch(tx).await?;
        self.committed.wake(Wake::Streams);
        Ok(confirmation)
    }

    /// A connection for reads.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be reached.
    pub async fn read(&self) -> Result<sqlx::pool::PoolConnection<Postgres>> {
        Ok(self.pools.acquire(Use::Reads).await?)
    }

    /// Begins a transaction for reads whose commit proves them.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database or the write quorum cannot be reached.
    pub async fn begin_read(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_on(Use::Reads).await
    }

    /// Work that waits for the database, for as long as that can end: a server
    /// that hangs closes no connection, so what waits for it ends once it is
    /// succeeded. For work that goes on for long or is repeated for ever.
    ///
    /// # Errors
    /// The work's own; `UNAVAILABLE` when it was given up.
    pub async fn unless_lost<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.pools.unless_lost(work).await.unwrap_or_else(|| {
            Err(Error::new(
                Reason::Unavailable,
                "the database server does not answer and was succeeded by another; try again",
            ))
        })
    }

    /// PostgreSQL's version, such as `15.18`.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the database cannot be reached.
    pub async fn server_version(&self) -> Result<String> {
        let text: String = sqlx::query_scalar("SELECT current_setting('server_version')")
            .fetch_one(&mut *self.read().await?)
            .await?;
        Ok(text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned())
    }

    /// Proves what was just read on `connection`: see [`Quorum::barrier`].
    ///
    /// # Errors
    /// `UNAVAILABLE` when it cannot be proved now.
    pub async fn barrier(&self, connection: &mut PgConnection) -> Result<()> {
        self.quorum.barrier(connection).await
    }

    /// Ends a transaction of reads and proves them: see [`Quorum::end_proved`].
    ///
    /// # Errors
    /// `UNAVAILABLE` when they cannot be proved now.
    pub async fn end_proved(&self, tx: Transaction<'_, Postgres>) -> Result<()> {
        self.quorum.end_proved(tx).await
    }

    async fn begin_on(&self, of: Use) -> Result<Transaction<'static, Postgres>> {
        self.quorum.check()?;
        Ok(self.pools.begin(of).await?)
    }
}

/// Opens the database as configured, and where a leader's lease is to be read,
/// begins to and waits until it was looked at.
///
/// # Errors
/// When the URL or the lease's CA cannot be read, or no server that can be
/// written to is reached.
pub async fn open(config: &Database, clock: SharedClock) -> Result<Db> {
    let (url, connections) = (config.url.expose(), config.max_connections);
    let quorum = Quorum::new(config.write_quorum);
    if !config.leader_lease.is_read() {
        let pools = Pools::connect(url, connections).await?;
        return Ok(Db::new(pools, Arc::new(quorum)));
    }
    let etcd = Etcd::new(&config.leader_lease)?;
    let pools = Pools::connect_watched(url, connections).await?;
    let lease = Arc::new(Lease::new(clock));
    lease.look(&etcd, &pools).await;
    tokio::spawn(Arc::clone(&lease).follow(etcd, pools.clone()));
    Ok(Db::new(pools, Arc::new(quorum.with_lease(lease))))
}

/// Lets the promise know what is seen of the primary, as soon as it is seen.
/// Ends with the watching.
async fn note_copies(mut standings: servers::Standings, quorum: Arc<Quorum>) {
    loop {
        quorum.note(standings.copies());
        if standings.changed().await.is_err() {
            return;
        }
    }
}

/// Whether this server follows another.
///
/// # Errors
/// When it does not answer.
pub async fn is_standby(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await
}

/// The newest migration that was applied; 0 before the first.
///
/// # Errors
/// When the database cannot be read.
pub async fn schema_version(connection: &mut PgConnection) -> Result<i64> {
    let known: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !known {
        return Ok(0);
    }
    Ok(
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success")
            .fetch_one(connection)
            .await?,
    )
}

/// The newest migration that this program knows.
pub fn newest_schema() -> i64 {
    let versions = MIGRATOR.iter().map(|migration| migration.version);
    versions.max().unwrap_or_default()
}

/// Refuses a database that this program's migrations have not all been applied
/// to.
///
/// # Errors
/// `UNAVAILABLE`; when the database cannot be read.
pub async fn refuse_old_schema(connection: &mut PgConnection) -> Result<()> {
    if schema_version(connection).await? < newest_schema() {
        return Err(Error::new(
            Reason::Unavailable,
            "the database's schema is older than this program: run `control-plane migrate` first",
        ));
    }
    Ok(())
}
