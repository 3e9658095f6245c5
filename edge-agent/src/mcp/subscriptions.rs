//! What a session of the older revisions has subscribed to.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use rmcp::{RoleServer, model::ResourceUpdatedNotificationParam, service::Peer};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::{Resource, Watch};

/// The subscriptions of one MCP session; nothing runs while there is none.
#[derive(Default)]
pub(super) struct Subscriptions(Mutex<Option<Followed>>);

/// At least one resource; the task ends with it.
struct Followed {
    resources: Arc<Mutex<HashSet<Resource>>>,
    _task: DropGuard,
}

impl Subscriptions {
    /// Tells the peer of every change of a resource from now on.
    pub(super) fn add(
        &self,
        resource: Resource,
        watch: impl FnOnce() -> Watch,
        peer: &Peer<RoleServer>,
    ) {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = followed.get_or_insert_with(|| {
            let resources = Arc::new(Mutex::new(HashSet::new()));
            let stop = CancellationToken::new();
            let task = tell_session(watch(), resources.clone(), peer.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            Followed {
                resources,
                _task: stop.drop_guard(),
            }
        });
        followed
            .resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(resource);
    }

    /// Tells of a resource no more.
    pub(super) fn remove(&self, resource: Resource) {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = followed.as_ref().map(|followed| {
            let mut resources = followed
                .resources
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            resources.remove(&resource);
            resources.len()
        });
        if left == Some(0) {
            *followed = None;
        }
    }
}

/// Tells a session of every change that it has subscribed to.
async fn tell_session(
    mut watch: Watch,
    resources: Arc<Mutex<HashSet<Resource>>>,
    peer: Peer<RoleServer>,
) {
    while let Some(changed) = watch.next().await {
        for resource in changed {
            let wanted = resources
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&resource);
            if !wanted {
                continue;
            }
            let update = ResourceUpdatedNotificationParam::new(resource.uri());
            if peer.notify_resource_updated(update).await.is_err() {
                return;
            }
        }
    }
}
