//! The first connection to a server: is it one to write to, and is it the one
//! that was written to before?

use std::{sync::OnceLock, time::Duration};

use futures::future::BoxFuture;
use sqlx::PgConnection;
use tokio::sync::Mutex;

use super::servers::server;
use crate::error::Result;

/// How long a new connection may take to be looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What is done on the first connection to a server.
pub(super) type Hook =
    Box<dyn for<'c> Fn(&'c mut PgConnection) -> BoxFuture<'c, Result<()>> + Send + Sync>;

/// Looks at every new connection.
#[derive(Default)]
pub(super) struct Arrival {
    hook: OnceLock<Hook>,
    /// Identifier and timeline of the server that the hook last ran on.
    known: Mutex<Option<(String, i64)>>,
}

impl Arrival {
    /// Only the first one counts.
    pub(super) fn set(&self, hook: Hook) {
        let _ = self.hook.set(hook);
    }

    /// Runs the hook, wherever it ran before.
    pub(super) async fn again(&self, connection: &mut PgConnection) -> Result<()> {
        match self.hook.get() {
            Some(hook) => hook(connection).await,
            None => Ok(()),
        }
    }

    /// A standby that answers the primary's address (during a failover) is no
    /// place to write to or to read outcomes from. The hook is bounded by the
    /// time that its caller has for a connection: one that was broken off is
    /// undone, and runs again on the next.
    pub(super) async fn at(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let looked = tokio::time::timeout(LOOK, look(connection)).await;
        let this = looked.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let Some(hook) = self.hook.get() else {
            return Ok(());
        };
        let mut known = self.known.lock().await;
        if known.as_ref() != Some(&this) {
            let done = hook(connection).await;
            done.map_err(|error| sqlx::Error::Configuration(error.into()))?;
            *known = Some(this);
        }
        Ok(())
    }
}

/// Identifier and timeline of the server.
async fn look(connection: &mut PgConnection) -> sqlx::Result<(String, i64)> {
    let (standby, identifier, timeline): (bool, String, i64) =
        sqlx::query_as(SERVER).fetch_one(connection).await?;
    if standby {
        return Err(sqlx::Error::Configuration("the server is a standby".into()));
    }
    Ok((identifier, timeline))
}

const SERVER: &str = server!();
