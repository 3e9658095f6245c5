//! Telling other edges of the agents of this one.

use std::{sync::Arc, time::Duration};

use authguardian_proto::liveness::Liveness;
use tokio_util::sync::CancellationToken;

use super::Core;

/// How soon others are told that an agent was not heard for too long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Core {
    /// Tells other edges, until `stop`, of the agents that this one vouches for, by
    /// the registry's signed word on them.
    pub async fn keep_telling(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.agents.changes();
        loop {
            changes.mark_unchanged();
            let now = self.ambient.clock.since_boot();
            let vouched = self.agents.all().into_iter();
            let vouched = vouched.filter(|own| own.liveness(now) == Liveness::Live);
            let records = vouched.map(|own| own.registered.signed_record.into());
            let records = records.filter(|record: &Arc<str>| !record.is_empty());
            self.neighbours.tell(records.collect());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
                heard = changes.changed() => if heard.is_err() { return },
            }
        }
    }
}
