//! Connections, kept apart by use so that none can starve another, and only
//! ever to a writable primary. Where several servers are named, they follow the
//! one that can be written to: see `servers`.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    arrival::Arrival,
    servers::{self, Standing, Standings},
};
use crate::{
    config::DatabaseUrl,
    error::{Error, Result},
};

/// A connection that was unused for longer is tried before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// How long a connection, or a server to connect to, is waited for.
const ACQUIRE: Duration = Duration::from_secs(5);

/// What has begun on a server that is no longer the primary has so long to end
/// by itself.
const GRACE: Duration = Duration::from_millis(300);

/// How long connections that were in use on such a server are waited for.
const ABANDON: Duration = Duration::from_mins(1);

/// Pools by use. All lead to the primary: reads have to see what was just
/// committed. Cloning it is cheap.
#[derive(Clone)]
pub struct Pools {
    current: watch::Receiver<Option<Arc<Primary>>>,
    standings: Option<Standings>,
    arrival: Arc<Arrival>,
    _following: Option<Arc<DropGuard>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use {
    /// Reads, proved by a barrier where an outcome depends on them.
    Reads,
    /// Writes.
    Writes,
    /// Revocations: they go on while writes queue.
    Revocations,
}

/// The pools of one server for as long as it is the primary.
#[derive(Debug)]
pub struct Primary {
    reads: PgPool,
    writes: PgPool,
    revocations: PgPool,
    options: PgConnectOptions,
    over: CancellationToken,
}

impl Primary {
    /// How to open a connection of one's own, outside of the pools.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Opens a connection of one's own.
    ///
    /// # Errors
    /// When the server does not let us in.
    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    /// Waits until it is no longer the primary; for ever, where only one server
    /// is named.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    fn pool(&self, of: Use) -> &PgPool {
        match of {
            Use::Reads => &self.reads,
            Use::Writes => &self.writes,
            Use::Revocations => &self.revocations,
        }
    }

    async fn close(&self) {
        self.writes.close().await;
        self.revocations.close().await;
        self.reads.close().await;
    }
}

impl Pools {
    /// Opens the pools; `connections` in all, 8 at least. Where the URL names
    /// several servers, waits for one that can be written to.
    ///
    /// # Errors
    /// When the URL cannot be read or no such server can be reached.
    pub async fn connect(url: &str, connections: u32) -> Result<Self> {
        Self::open(url, connections, false).await
    }

    /// As [`Pools::connect`]; a single server is watched as well, so that
    /// [`Pools::timeline_of`] knows it.
    ///
    /// # Errors
    /// As [`Pools::connect`].
    pub async fn connect_watched(url: &str, connections: u32) -> Result<Self> {
        Self::open(url, connections, true).await
    }

    async fn open(url: &str, connections: u32, watched: bool) -> Result<Self> {
        let servers = DatabaseUrl::from(url.to_owned())
            .servers()
            .map_err(|problem| Error::invalid("database.url", problem))?;
        let options: Vec<_> = servers.into_iter().map(ours).collect();
        let arrival = Arc::new(Arrival::default());
        match &*options {
            [only] if !watched => {
                let primary = Primary::new(only, connections, &arrival);
                // a wrong address or password is told at once
                drop(primary.reads.acquire().await?);
                let (_, current) = watch::channel(Some(Arc::new(primary)));
                Ok(Self {
                    current,
                    standings: None,
                    arrival,
                    _following: None,
                })
            }
            _ => Self::following(options, connections, arrival).await,
        }
    }

    async fn following(
        options: Vec<PgConnectOptions>,
        connections: u32,
        arrival: Arc<Arrival>,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let standings = servers::watch(&options, &stop);
        let (sender, current) = watch::channel(None);
        tokio::spawn(follow(
            options,
            connections,
            Arc::clone(&arrival),
            standings.clone(),
            sender,
        ));
        let mut found = current.clone();
        let pools = Self {
            current,
            standings: Some(standings.clone()),
            arrival,
            _following: Some(Arc::new(stop.drop_guard())),
        };
        match tokio::time::timeout(ACQUIRE, found.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(pools),
            _ => Err(standings.none_is_writable()),
        }
    }

    /// Has `hook` run on the first connection to each server that has become
    /// the primary, before anything else is done there.
    pub fn on_arrival(
        &self,
        hook: impl for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<()>> + Send + Sync + 'static,
    ) {
        self.arrival.set(Box::new(hook));
    }

    /// Runs the hook of [`Pools::on_arrival`] once more, if there is one.
    ///
    /// # Errors
    /// The hook's.
    pub async fn arrive_again(&self, connection: &mut PgConnection) -> Result<()> {
        self.arrival.again(connection).await
    }

    /// The primary, once there is one.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there is none for 5 s.
    pub async fn primary(&self) -> Result<Arc<Primary>> {
        let mut current = self.current.clone();
        let found = tokio::time::timeout(ACQUIRE, current.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(primary)) => primary
                .clone()
                .ok_or_else(|| sqlx::Error::PoolTimedOut.into()),
            _ => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Runs work that takes its connections here to its end, or until the server
    /// that it took the last one from is no longer the primary: a server that
    /// hangs closes no connection. `None`: it was given up, and nobody knows what
    /// it has done. Before it has a connection it is not given up, as that is
    /// waited for no longer than 5 s.
    pub async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        guarded(None, work).await
    }

    /// Which timeline a server writes that is a primary now, as seen by asking
    /// itself; `None` for a standby, one that is away, and one that the URL does
    /// not name.
    pub fn timeline_of(&self, host: &str, port: u16) -> Option<i64> {
        self.standings.as_ref()?.timeline_of(host, port)
    }

    /// What the primary writes, where the servers are watched.
    pub(super) fn timeline(&self) -> Option<i64> {
        let (_, primary) = self.standings.clone()?.primary()?;
        primary.timeline()
    }

    /// How the servers stand, where they are watched.
    pub(super) fn standings(&self) -> Option<&Standings> {
        self.standings.as_ref()
    }

    /// The same for work that has its connection already, from `primary`.
    pub(super) async fn unless_over<T>(
        primary: Option<Arc<Primary>>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        guarded(primary, work).await
    }

    pub(super) async fn acquire(&self, of: Use) -> sqlx::Result<PoolConnection<Postgres>> {
        self.on_primary(of, |pool| Box::pin(async move { pool.acquire().await }))
            .await
    }

    pub(super) async fn begin(&self, of: Use) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.on_primary(of, |pool| Box::pin(async move { pool.begin().await }))
            .await
    }

    /// What has not begun on one primary before it was over is begun on the
    /// next one.
    async fn on_primary<T>(
        &self,
        of: Use,
        take: impl Fn(PgPool) -> BoxFuture<'static, sqlx::Result<T>>,
    ) -> sqlx::Result<T> {
        let mut current = self.current.clone();
        let taken = async {
            loop {
                let primary = match current.wait_for(Option::is_some).await {
                    Ok(primary) => primary.clone(),
                    Err(_) => return Err(sqlx::Error::PoolClosed),
                };
                let Some(primary) = primary else { continue };
                tokio::select! {
                    taken = take(primary.pool(of).clone()) => match taken {
                        Err(_) if primary.over.is_cancelled() => {}
                        taken => {
                            goes_on_at(&primary);
                            return taken;
                        }
                    },
                    () = primary.over() => {}
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(ACQUIRE, taken)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// The pool of reads, for migrations.
    ///
    /// # Errors
    /// As [`Pools::primary`].
    pub async fn reads(&self) -> Result<PgPool> {
        Ok(self.primary().await?.reads.clone())
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let current = self.current.borrow().clone();
        if let Some(primary) = current {
            primary.close().await;
        }
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools")
    }
}

impl Primary {
    fn new(options: &PgConnectOptions, connections: u32, arrival: &Arc<Arrival>) -> Self {
        let connections = connections.max(8);
        let pool = |size: u32| {
            let arrival = Arc::clone(arrival);
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(ACQUIRE)
                // a ping before every use would be a round trip for each batch
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        if meta.idle_for > IDLE {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
                .after_connect(move |connection, _| {
                    let arrival = Arc::clone(&arrival);
                    Box::pin(async move { arrival.at(connection).await })
                })
        };
        // batches have few statements, whose arrays would have them planned anew each time
        let batches = options
            .clone()
            .options([("plan_cache_mode", "force_generic_plan")]);
        Self {
            reads: pool(connections / 4).connect_lazy_with(options.clone()),
            writes: pool(connections / 2).connect_lazy_with(batches.clone()),
            revocations: pool(connections / 4).connect_lazy_with(batches),
            options: options.clone(),
            over: CancellationToken::new(),
        }
    }
}

fn ours(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("authguardian")
        // a transaction whose owner stands still or is cut off must not hold locks for long: everybody who writes to
        // the same board waits for them
        .options([
            ("idle_in_transaction_session_timeout", "5s"),
            ("lock_timeout", "10s"),
            // compiling takes longer than any of these statements
            ("jit", "off"),
        ])
}

tokio::task_local! {
    /// The primary that guarded work has its connection from.
    static PLACE: watch::Sender<Option<Arc<Primary>>>;
}

/// The primary that the guarded work around has its connection from.
pub(super) fn place() -> Option<Arc<Primary>> {
    PLACE
        .try_with(|place| place.borrow().clone())
        .ok()
        .flatten()
}

/// Lets the guard of the work around know where it goes on, if there is one.
fn goes_on_at(primary: &Arc<Primary>) {
    let _ = PLACE.try_with(|place| place.send_replace(Some(Arc::clone(primary))));
}

/// See [`Pools::unless_lost`].
async fn guarded<T>(begun_at: Option<Arc<Primary>>, work: impl Future<Output = T>) -> Option<T> {
    let (place, mut at) = watch::channel(begun_at);
    let work = PLACE.scope(place, work);
    tokio::pin!(work);
    loop {
        let primary = at.borrow_and_update().clone();
        let lost = async {
            match &primary {
                Some(primary) => primary.over().await,
                None => std::future::pending().await,
            }
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            Ok(()) = at.changed() => {}
            () = lost => return None,
        }
    }
}

/// Makes pools of each server that becomes the primary, and ends those of the
/// one before. Ends with the watching.
async fn follow(
    options: Vec<PgConnectOptions>,
    connections: u32,
    arrival: Arc<Arrival>,
    mut standings: Standings,
    current: watch::Sender<Option<Arc<Primary>>>,
) {
    let mut known: Option<(usize, Standing)> = None;
    loop {
        let now = standings.primary();
        let same = match (&known, &now) {
            (Some((server, was)), Some((other, is))) => server == other && was.is_same_server(is),
            (None, None) => true,
            _ => false,
        };
        if !same {
            let next = now.as_ref().map(|(server, _)| {
                Arc::new(Primary::new(&options[*server], connections, &arrival))
            });
            if let Some((server, _)) = &now {
                let (host, port) = (options[*server].get_host(), options[*server].get_port());
                tracing::info!(host, port, "follows the primary database");
            } else {
                tracing::warn!("no database server can be written to");
            }
            if let Some(last) = current.send_replace(next) {
                abandon(last);
            }
            known = now;
        }
        if standings.changed().await.is_err() {
            return;
        }
    }
}

/// Ends what waits on a server that is no longer the primary, and closes its
/// connections as they come back.
fn abandon(primary: Arc<Primary>) {
    primary.over.cancel();
    tokio::spawn(async move {
        // some of them may never come back from a server that hangs
        let _ = tokio::time::timeout(ABANDON, primary.close()).await;
    });
}
