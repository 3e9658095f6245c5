//! Closing the connections of machines that were banned, evicted or changed.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Closes them whenever a machine stands worse than before, until `stop`. A
/// connection that is made after a machine's standing has changed is not
/// closed: its calls are asked by the new one.
pub(super) fn close_connections(
    app: Arc<App>,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    // from now on, and not from when this is polled first
    let mut news = app.identity.standing_changes();
    let mut seen = app.identity.standings();
    async move {
        loop {
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            let now = app.identity.standings();
            let worse = now.worse_than(&seen);
            seen = now;
            let is_worse = |machine| worse.contains(&machine);
            let closed = app
                .connections
                .close(|peer| peer.machine.is_some_and(is_worse));
            if closed > 0 {
                tracing::info!(
                    closed,
                    "closed connections of banned, evicted or changed machines"
                );
            }
        }
    }
}
