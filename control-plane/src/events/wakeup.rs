//! NOTIFY as a wake-up between control planes: sent after commits, from a
//! connection of its own that waits for no disk. NOTIFY inside of the
//! committing transaction would hold a database-wide lock through its sync
//! wait. Losing a wake-up costs a poll interval and nothing else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{
    ConnectOptions,
    postgres::{PgListener, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use super::store;
use crate::db::{Pools, Primary, Wake, Wakes};

const CHANNEL: &str = "authguardian_change";

/// What the listening connection of every control plane is called.
pub(super) const LISTENER: &str = "authguardian listener";

/// After a failure of the database, before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// Between wake-ups: one stands for all commits of that time.
const SPACING: Duration = Duration::from_millis(10);

/// The server process that this control plane's own wake-ups come from; 0: not
/// known yet.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnBackend(Arc<AtomicU32>);

/// What a wake-up says where only boards were changed.
const BOARDS: &str = "boards";

/// Tells other control planes each time that `committed` is woken, until `stop`.
pub(super) async fn tell_others(
    pools: Pools,
    own: OwnBackend,
    committed: Arc<Wakes>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let told = async {
            let Ok(primary) = pools.primary().await else {
                return;
            };
            tokio::select! {
                () = tell(&primary, &own, &committed) => {}
                () = primary.over() => {}
            }
        };
        let told = stop.run_until_cancelled(told).await;
        if told.is_some() {
            pause(&stop).await;
        }
    }
}

/// Tells them until the connection is lost.
async fn tell(primary: &Primary, own: &OwnBackend, committed: &Wakes) {
    let options = primary
        .options()
        .clone()
        .options([("synchronous_commit", "off")]);
    let Ok(mut connection) = options.connect().await else {
        return;
    };
    if let Ok(backend) = store::backend(&mut connection).await {
        own.0.store(backend, Ordering::Relaxed);
    }
    loop {
        let payload = match committed.woken().await {
            Wake::Streams => "",
            Wake::Boards => BOARDS,
        };
        if let Err(error) = store::notify(&mut connection, CHANNEL, payload).await {
            tracing::debug!(%error, "lost the connection for wake-ups");
            return;
        }
        tokio::time::sleep(SPACING).await;
    }
}

/// Wakes `wake` whenever another control plane has committed, until `stop`.
pub(super) async fn hear_others(
    pools: Pools,
    own: OwnBackend,
    wake: Arc<Wakes>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let heard = async {
            let Ok(primary) = pools.primary().await else {
                return;
            };
            tokio::select! {
                Err(error) = hear(&primary, &own, &wake) => {
                    tracing::debug!(%error, "lost the connection for wake-ups");
                }
                () = primary.over() => {}
            }
        };
        let heard = stop.run_until_cancelled(heard).await;
        if heard.is_some() {
            pause(&stop).await;
        }
    }
}

/// Hears them until the connection is lost.
async fn hear(primary: &Primary, own: &OwnBackend, wake: &Wakes) -> sqlx::Result<()> {
    // the listener keeps its connection: it must not be one of the pools'
    let options = primary.options().clone().application_name(LISTENER);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let heard = listener.recv().await?;
        if heard.process_id() != own.0.load(Ordering::Relaxed) {
            wake.wake(if heard.payload() == BOARDS {
                Wake::Boards
            } else {
                Wake::Streams
            });
        }
    }
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(RETRY) => {}
        () = stop.cancelled() => {}
    }
}
