//! Progress of calls that take long, for clients that ask for it.

use std::time::Duration;

use rmcp::{RoleServer, model::ProgressNotificationParam, service::RequestContext};
use tokio::time::Instant;

/// Between two words on a call's progress.
const EVERY: Duration = Duration::from_secs(1);

/// Waits for a call, and tells its client meanwhile for how many seconds it has
/// been under way. How long it will take is not known, so there is no total.
pub(super) async fn telling<T>(
    call: impl Future<Output = T>,
    context: &RequestContext<RoleServer>,
) -> T {
    let Some(token) = context.meta.get_progress_token() else {
        return call.await;
    };
    let tell = async {
        let began = Instant::now();
        let mut beat = tokio::time::interval_at(began + EVERY, EVERY);
        loop {
            beat.tick().await;
            let seconds = began.elapsed().as_secs_f64();
            let word = ProgressNotificationParam::new(token.clone(), seconds)
                .with_message("waiting for the control plane");
            if context.peer.notify_progress(word).await.is_err() {
                return;
            }
        }
    };
    let mut call = std::pin::pin!(call);
    tokio::select! {
        biased;
        outcome = &mut call => return outcome,
        () = tell => {}
    }
    // there is nobody left to tell
    call.await
}
