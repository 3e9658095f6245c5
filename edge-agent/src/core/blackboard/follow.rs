//! Boards that somebody has subscribed to: one stream for all subscribers of a
//! principal to a key, for as long as there are any.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use authguardian_proto::{
    blackboard::v1::WatchRequest,
    common::v1::Position,
    ids::{ApiKeyId, SessionId},
    reason::Problem,
    zone::Zone,
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{BoardUri, here::BoardStream};
use crate::{
    core::{Caller, Core},
    upstream::BoardNews,
};

/// What is followed for its subscribers.
#[derive(Default)]
pub(in crate::core) struct Followed(Mutex<HashMap<Which, Weak<Shared>>>);

/// Whose sight of what.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Which {
    api_key_id: ApiKeyId,
    /// Of callers with a session: it ends by itself.
    session: Option<SessionId>,
    zone: Zone,
    uri: BoardUri,
}

/// One stream and what it tells: that there was a change, whichever.
struct Shared {
    followed: Arc<Followed>,
    which: Which,
    changes: watch::Receiver<u64>,
    _task: AbortOnDropHandle<()>,
}

/// A subscription to a key, or to all keys of a board.
pub struct BoardSubscription {
    changes: watch::Receiver<u64>,
    _shared: Arc<Shared>,
}

impl BoardSubscription {
    /// Waits for a change, or several; `false`: there are no more, since the
    /// credential has ended or the board is no longer for its holder.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut followed = self.followed.lock();
        // another may have begun meanwhile
        if followed
            .get(&self.which)
            .is_some_and(|known| known.strong_count() == 0)
        {
            followed.remove(&self.which);
        }
    }
}

impl Followed {
    fn lock(&self) -> MutexGuard<'_, HashMap<Which, Weak<Shared>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins a stream that has not ended.
    fn join(&self, which: &Which) -> Option<BoardSubscription> {
        let shared = self.lock().get(which).and_then(Weak::upgrade)?;
        shared
            .changes
            .has_changed()
            .is_ok()
            .then(|| subscription(shared))
    }

    fn add(self: &Arc<Self>, shared: Arc<Shared>) -> BoardSubscription {
        let which = shared.which.clone();
        self.lock().insert(which, Arc::downgrade(&shared));
        subscription(shared)
    }
}

fn subscription(shared: Arc<Shared>) -> BoardSubscription {
    let mut changes = shared.changes.clone();
    changes.mark_unchanged();
    BoardSubscription {
        changes,
        _shared: shared,
    }
}

impl Core {
    /// Subscribes a caller to a key of a board, or to all of its keys, from this
    /// moment on; it counts as one call.
    ///
    /// # Errors
    /// `RATE_LIMITED`; `BOARD_NOT_FOUND`, `PERMISSION_DENIED` and what else the
    /// control plane refuses; `UNAVAILABLE`.
    pub async fn subscribe_to_board(
        &self,
        caller: &Caller,
        uri: &BoardUri,
    ) -> Result<BoardSubscription, Problem> {
        let action = || "resource.read".to_owned();
        self.admit(caller, None, action).await?;
        let subscribed = self.try_subscribe(caller, uri).await;
        self.note_outcome(caller, action, || None, subscribed.as_ref().err());
        subscribed
    }

    async fn try_subscribe(
        &self,
        caller: &Caller,
        uri: &BoardUri,
    ) -> Result<BoardSubscription, Problem> {
        let session = caller.session();
        let which = Which {
            api_key_id: session.api_key_id,
            session: caller.login().is_by_session().then_some(session.id),
            zone: caller.peer.zone(),
            uri: uri.clone(),
        };
        if let Some(joined) = self.followed.join(&which) {
            return Ok(joined);
        }
        let request = WatchRequest {
            board: uri.board.to_string(),
            key: uri
                .key
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            ..WatchRequest::default()
        };
        let follow = self.follow_board(caller, request).await?;
        let (tell, changes) = watch::channel(0);
        let (core, caller) = (self.clone(), caller.without_key());
        let board = uri.board.to_string();
        let task = tokio::spawn(async move {
            let told = |up_to| core.mark_told(&caller, &board, up_to);
            tokio::select! {
                () = tell_changes(follow, told, tell) => {}
                () = core.credential_ended(&caller) => {}
            }
        });
        Ok(self.followed.add(Arc::new(Shared {
            followed: self.followed.clone(),
            which,
            changes,
            _task: AbortOnDropHandle::new(task),
        })))
    }
}

/// Tells of every change, until there are no more; a gap is one.
async fn tell_changes(mut follow: BoardStream, told: impl Fn(Position), tell: watch::Sender<u64>) {
    loop {
        match follow.next().await {
            BoardNews::Changes { changes, .. } if changes.is_empty() => {}
            BoardNews::Changes { up_to, .. } | BoardNews::Compacted { up_to } => {
                // who reads then is shown it
                told(up_to);
                tell.send_modify(|count| *count = count.wrapping_add(1));
            }
            BoardNews::Lagged { .. } => {}
            BoardNews::Over(problem) => {
                tracing::debug!(reason = %problem.reason, detail = problem.detail, "a board is no longer followed");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn which(uri: &str) -> Which {
        Which {
            api_key_id: "apk_0000000000000000000008".parse().unwrap(),
            session: None,
            zone: Zone::LocalMachine,
            uri: BoardUri::parse(uri).unwrap(),
        }
    }

    fn begin(followed: &Arc<Followed>, uri: &str) -> (watch::Sender<u64>, BoardSubscription) {
        let (tell, changes) = watch::channel(0);
        let shared = Shared {
            followed: followed.clone(),
            which: which(uri),
            changes,
            _task: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
        };
        (tell, followed.add(Arc::new(shared)))
    }

    #[tokio::test]
    async fn a_stream_is_joined_until_its_last_subscriber_leaves_or_it_ends() {
        const A: &str = "blackboard://strong/a";
        let followed = Arc::<Followed>::default();
        let (tell, first) = begin(&followed, A);
        tell.send_replace(1);
        assert!(followed.join(&which("blackboard://strong/b")).is_none());
        let mut second = followed.join(&which(A)).unwrap();
        drop(first);
        tell.send_replace(2);
        assert!(second.changed().await);
        drop(tell);
        assert!(!second.changed().await);
        assert!(followed.join(&which(A)).is_none(), "it has ended");
        let (_tell, third) = begin(&followed, A);
        drop(second);
        assert!(followed.join(&which(A)).is_some(), "the later one");
        drop(third);
        assert!(followed.lock().is_empty());
    }

    #[tokio::test]
    async fn whoever_joins_hears_only_of_what_changes_from_then_on() {
        const A: &str = "blackboard://strong/a";
        let followed = Arc::<Followed>::default();
        let (tell, _first) = begin(&followed, A);
        tell.send_replace(1);
        let mut second = followed.join(&which(A)).unwrap();
        assert!(!second.changes.has_changed().unwrap());
        tell.send_replace(2);
        assert!(second.changed().await);
    }
}
