//! NOTIFY as a wake-up between control planes: sent after commits, from a
//! connection of its own that waits for no disk. NOTIFY inside of the
//! committing transaction would hold a database-wide lock through its sync
//! wait. Losing a wake-up costs a poll interval and nothing else.

use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::store;
use crate::db::Pools;

const CHANNEL: &str = "authguardian_change";

/// After a failure of the database, before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// Tells other control planes each time `committed` is notified, until `stop`.
pub(super) async fn tell_others(pools: Pools, committed: Arc<Notify>, stop: CancellationToken) {
    let options = pools
        .options()
        .clone()
        .options([("synchronous_commit", "off")]);
    while !stop.is_cancelled() {
        let Ok(mut connection) = options.connect().await else {
            pause(&stop).await;
            continue;
        };
        loop {
            tokio::select! {
                () = committed.notified() => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = store::notify(&mut connection, CHANNEL).await {
                tracing::debug!(%error, "lost the connection for wake-ups");
                break;
            }
        }
    }
}

/// Notifies `wake` whenever any control plane has committed, until `stop`.
pub(super) async fn hear_others(pools: Pools, wake: Arc<Notify>, stop: CancellationToken) {
    // the listener keeps its connection: it must not be one of the pools'
    let own = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(pools.options().clone());
    while !stop.is_cancelled() {
        let heard = async {
            let mut listener = PgListener::connect_with(&own).await?;
            listener.listen(CHANNEL).await?;
            loop {
                listener.recv().await?;
                wake.notify_one();
            }
        };
        let lost: sqlx::Result<()> = tokio::select! {
            lost = heard => lost,
            () = stop.cancelled() => return,
        };
        if let Err(error) = lost {
            tracing::debug!(%error, "lost the connection for wake-ups");
        }
        pause(&stop).await;
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(RETRY) => {}
        () = stop.cancelled() => {}
    }
}
