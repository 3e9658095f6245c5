//! Connections, kept apart by use so that none can starve another, and only
//! ever to a writable primary.

use std::{str::FromStr, time::Duration};

use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::error::{Error, Result};

/// A connection that was unused for longer is tried before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// Pools by use. All lead to the primary: reads have to see what was just
/// committed.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Reads, proved by a barrier where an outcome depends on them.
    pub reads: PgPool,
    /// Writes.
    pub writes: PgPool,
    /// Revocations: they go on while writes queue.
    pub revocations: PgPool,
    options: PgConnectOptions,
}

impl Pools {
    /// Opens the pools; `connections` in all, 8 at least.
    ///
    /// # Errors
    /// When the URL cannot be read or the database cannot be reached.
    pub async fn connect(url: &str, connections: u32) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| {
                Error::invalid("database.url", "expected `postgres://user@host/name`")
                    .caused_by(error)
            })?
            .application_name("authguardian")
            // a transaction that its owner forgot must not hold locks for long
            .options([
                ("idle_in_transaction_session_timeout", "30s"),
                ("lock_timeout", "10s"),
            ]);
        let connections = connections.max(8);
        let pool = |size: u32| {
            PgPoolOptions::new()
                .max_connections(size)
                .acquire_timeout(Duration::from_secs(5))
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
                .after_connect(|connection, _| Box::pin(refuse_standby(connection)))
        };
        // batches have few statements, whose arrays would have them planned anew each time
        let batches = options
            .clone()
            .options([("plan_cache_mode", "force_generic_plan")]);
        Ok(Self {
            reads: pool(connections / 4).connect_with(options.clone()).await?,
            writes: pool(connections / 2).connect_lazy_with(batches.clone()),
            revocations: pool(connections / 4).connect_lazy_with(batches),
            options,
        })
    }

    /// How to open a connection of one's own, outside of the pools.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.writes.close().await;
        self.revocations.close().await;
        self.reads.close().await;
    }
}

/// A standby that answers the primary's address (during a failover) is no
/// place to write to or to read outcomes from.
async fn refuse_standby(connection: &mut sqlx::PgConnection) -> sqlx::Result<()> {
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await?;
    if standby {
        return Err(sqlx::Error::Configuration("the server is a standby".into()));
    }
    Ok(())
}
