//! What a client is told of without asking: changes of resources that it has
//! subscribed to, and of the list of tools.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rmcp::{
    RoleServer,
    model::{ResourceUpdatedNotificationParam, SubscriptionFilter},
    service::{Peer, SubscriptionSink},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::core::{Caller, Core, Resource, Watch};

/// What changes for one caller.
pub(super) struct News {
    resources: Watch,
    tools: watch::Receiver<()>,
}

/// One thing to tell.
enum Item {
    Resources(BTreeSet<Resource>),
    Tools,
}

/// What one session of the older revisions has subscribed to.
#[derive(Default)]
pub(super) struct Subscriptions {
    resources: Arc<Mutex<HashSet<Resource>>>,
    /// Tells the session, until this is dropped.
    telling: Mutex<Option<DropGuard>>,
}

impl News {
    /// From now on.
    pub(super) fn begin(core: &Core, caller: &Caller) -> Self {
        Self {
            resources: core.watch(caller),
            tools: core.tool_changes(),
        }
    }

    /// Waits for the next; `None` when the edge ends.
    async fn next(&mut self) -> Option<Item> {
        tokio::select! {
            changed = self.resources.next() => changed.map(Item::Resources),
            changed = self.tools.changed() => changed.ok().map(|()| Item::Tools),
        }
    }
}

impl Subscriptions {
    /// Tells the peer from now on, if it is not told already.
    pub(super) fn begin(&self, news: News, peer: Peer<RoleServer>) {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        telling.get_or_insert_with(|| {
            let stop = CancellationToken::new();
            let task = tell_session(news, self.resources.clone(), peer);
            tokio::spawn(stop.clone().run_until_cancelled_owned(task));
            stop.drop_guard()
        });
    }

    /// Tells of every change of a resource from now on.
    pub(super) fn add(&self, resource: Resource) {
        lock(&self.resources).insert(resource);
    }

    /// Tells of a resource no more.
    pub(super) fn remove(&self, resource: Resource) {
        lock(&self.resources).remove(&resource);
    }
}

/// Tells a session of all that it has subscribed to.
async fn tell_session(
    mut news: News,
    resources: Arc<Mutex<HashSet<Resource>>>,
    peer: Peer<RoleServer>,
) {
    while let Some(item) = news.next().await {
        let told = match item {
            Item::Tools => peer.notify_tool_list_changed().await,
            Item::Resources(changed) => {
                let mut told = Ok(());
                for resource in changed {
                    if told.is_ok() && lock(&resources).contains(&resource) {
                        let update = ResourceUpdatedNotificationParam::new(resource.uri());
                        told = peer.notify_resource_updated(update).await;
                    }
                }
                told
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// Tells whoever listens of what was agreed on.
pub(super) async fn tell_listener(
    mut news: News,
    accepted: &SubscriptionFilter,
    sink: &SubscriptionSink,
) {
    let uris = accepted
        .resource_subscriptions
        .as_deref()
        .unwrap_or_default();
    while let Some(item) = news.next().await {
        let told = match item {
            Item::Tools if accepted.tools_list_changed == Some(true) => {
                sink.notify_tool_list_changed().await
            }
            Item::Tools => Ok(()),
            Item::Resources(changed) => {
                let mut told = Ok(());
                for resource in changed {
                    if told.is_ok() && uris.iter().any(|uri| uri == resource.uri()) {
                        told = sink.notify_resource_updated(resource.uri()).await;
                    }
                }
                told
            }
        };
        if told.is_err() {
            return;
        }
    }
}

fn lock(resources: &Mutex<HashSet<Resource>>) -> MutexGuard<'_, HashSet<Resource>> {
    resources.lock().unwrap_or_else(PoisonError::into_inner)
}
