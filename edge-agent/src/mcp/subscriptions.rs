//! What a client is told of without asking: changes of resources that it has
//! subscribed to, and of the list of tools.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use authguardian_proto::reason::Problem;
use futures::{StreamExt, stream::FuturesUnordered};
use rmcp::{
    RoleServer,
    model::{ResourceUpdatedNotificationParam, SubscriptionFilter},
    service::{Peer, SubscriptionSink},
};
use tokio::sync::watch;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use super::listened::check_room;
use crate::core::{Caller, Changes, Core, Resource, Subscription, Watch};

/// Listeners of one session that are about to begin at the same moment. More
/// than this may miss what changes between the agreement and their beginning.
const MAX_AGREED: usize = 64;

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
    /// What tells the session of boards and budgets, by the URIs that it has named.
    followed: Mutex<HashMap<String, AbortOnDropHandle<()>>>,
    /// Tells the session, until this is dropped.
    telling: Mutex<Option<DropGuard>>,
    /// Of those who are about to listen; any is as good as another.
    agreed: Mutex<Vec<Heard>>,
}

/// What changes from some moment on, before it is known for whom.
pub(super) struct Heard {
    changes: Changes,
    tools: watch::Receiver<()>,
}

impl Heard {
    fn begin(core: &Core) -> Self {
        Self {
            changes: core.changes(),
            tools: core.tool_changes(),
        }
    }

    /// The news of a caller.
    pub(super) fn of(self, core: &Core, caller: &Caller) -> News {
        News {
            resources: core.watch_from(self.changes, caller),
            tools: self.tools,
        }
    }
}

impl News {
    /// From now on.
    pub(super) fn begin(core: &Core, caller: &Caller) -> Self {
        Heard::begin(core).of(core, caller)
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

    /// Remembers what changes from now on, for a listener that is about to begin.
    pub(super) fn agree(&self, core: &Core) {
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        if agreed.len() < MAX_AGREED {
            agreed.push(Heard::begin(core));
        }
    }

    /// What was remembered; from now on where nothing was.
    pub(super) fn agreed(&self, core: &Core) -> Heard {
        let mut agreed = self.agreed.lock().unwrap_or_else(PoisonError::into_inner);
        // the oldest: it knows of everything since any of them
        if agreed.is_empty() {
            Heard::begin(core)
        } else {
            agreed.remove(0)
        }
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

impl Subscriptions {
    /// Tells of every change of a board or budget from now on, by the URI as it was
    /// named.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`.
    pub(super) fn follow(
        &self,
        uri: String,
        subscription: Subscription,
        peer: Peer<RoleServer>,
    ) -> Result<(), Problem> {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|_, telling| !telling.is_finished());
        if !followed.contains_key(&uri) {
            check_room(followed.len())?;
        }
        let telling = tokio::spawn(tell_session_of(uri.clone(), subscription, peer));
        followed.insert(uri, AbortOnDropHandle::new(telling));
        Ok(())
    }

    /// Tells of a board or budget no more.
    pub(super) fn unfollow(&self, uri: &str) {
        let mut followed = self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.remove(uri);
    }
}

async fn tell_session_of(uri: String, mut subscription: Subscription, peer: Peer<RoleServer>) {
    while subscription.changed().await {
        let update = ResourceUpdatedNotificationParam::new(uri.clone());
        if peer.notify_resource_updated(update).await.is_err() {
            return;
        }
    }
}

/// Tells whoever listens of the boards and budgets that were asked for.
pub(super) async fn tell_of_followed(
    followed: Vec<(String, Subscription)>,
    sink: &SubscriptionSink,
) {
    let telling = followed
        .into_iter()
        .map(|(uri, mut subscription)| async move {
            while subscription.changed().await {
                if sink.notify_resource_updated(uri.clone()).await.is_err() {
                    return;
                }
            }
        });
    let mut telling: FuturesUnordered<_> = telling.collect();
    while telling.next().await.is_some() {}
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
