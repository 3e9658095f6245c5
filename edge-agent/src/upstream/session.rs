//! Sessions of presented API keys: made by a signed nonce, kept by the key's
//! hash while the `identity` stream is fresh.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    credential::{ApiKey, sha256},
    ids::{AgentId, ApiKeyId},
    reason::{Problem, Reason},
    zone::Zone,
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{Change, Feed};
use crate::clock::Ambient;

/// With more sessions than this, ended ones are dropped before one is added.
const SWEEP_ABOVE: usize = 1024;

/// What the control plane said about a key at this machine.
pub struct Session {
    /// Which key.
    pub api_key_id: ApiKeyId,
    /// Whom it may speak for.
    pub agent_ids: Arc<[AgentId]>,
    /// Whether it may check other agents' tokens.
    pub validator: bool,
    /// The zone that counts.
    pub zone: Zone,
    /// Since boot: when it is no longer used.
    pub usable_until: Duration,
    /// `Bearer …`, marked sensitive.
    pub(super) bearer: MetadataValue<Ascii>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("api_key_id", &self.api_key_id)
            .field("agent_ids", &self.agent_ids)
            .finish_non_exhaustive()
    }
}

/// A key is told apart by the hash of its whole text: a right id with a wrong
/// secret is another key. Sessions are bound to a zone, so that is part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Presented {
    key_hash: [u8; 32],
    zone: Zone,
}

type Exchange = Shared<BoxFuture<'static, Result<Arc<Session>, Problem>>>;

/// The sessions of this edge.
pub struct Sessions {
    pub(super) channel: Channel,
    pub(super) ambient: Ambient,
    feed: Feed,
    known: papaya::HashMap<Presented, Arc<Session>>,
    /// Exchanges that are under way, each shared by all who wait for it.
    pending: Mutex<HashMap<Presented, Exchange>>,
}

impl Sessions {
    pub(super) fn new(channel: Channel, ambient: Ambient, feed: Feed) -> Self {
        Self {
            channel,
            ambient,
            feed,
            known: papaya::HashMap::new(),
            pending: Mutex::new(HashMap::new()),
        }
    }

    /// The session of a key: the kept one, else a fresh one.
    ///
    /// # Errors
    /// `API_KEY_…`, `SIGNATURE_INVALID` of a key that is not right, and
    /// `UNAVAILABLE`.
    pub async fn of(
        self: &Arc<Self>,
        key: &Arc<ApiKey>,
        zone: Zone,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: sha256(key.expose().as_bytes()),
            zone,
        };
        match self.kept(presented) {
            Some(session) => Ok(session),
            None => self.exchange(presented, key.clone()).await,
        }
    }

    /// A session to replace one that the control plane no longer takes.
    ///
    /// # Errors
    /// As [`Sessions::of`].
    pub async fn replace(
        self: &Arc<Self>,
        refused: &Arc<Session>,
        key: &Arc<ApiKey>,
        zone: Zone,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: sha256(key.expose().as_bytes()),
            zone,
        };
        match self.kept(presented) {
            Some(session) if !Arc::ptr_eq(&session, refused) => Ok(session),
            _ => self.exchange(presented, key.clone()).await,
        }
    }

    /// Forgets sessions as their keys are revoked, until told to stop.
    pub async fn follow_revocations(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.feed.subscribe();
        loop {
            let change = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.recv() => change,
            };
            match change {
                Ok(Change::ApiKeyRevoked(id)) => {
                    self.known
                        .pin()
                        .retain(|_, session| session.api_key_id != id);
                }
                Ok(Change::Everything) | Err(RecvError::Lagged(_)) => self.known.pin().clear(),
                Ok(Change::Grants(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn kept(&self, presented: Presented) -> Option<Arc<Session>> {
        let known = self.known.pin();
        if !self.feed.is_fresh() {
            known.clear();
            return None;
        }
        let session = known.get(&presented)?;
        (self.ambient.clock.since_boot() < session.usable_until).then(|| session.clone())
    }

    /// Joins the exchange that is under way for this key, or begins one. It
    /// runs to its end even when nobody waits any more, so that the key is
    /// wiped.
    async fn exchange(
        self: &Arc<Self>,
        presented: Presented,
        key: Arc<ApiKey>,
    ) -> Result<Arc<Session>, Problem> {
        let exchange = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(presented)
            .or_insert_with(|| self.clone().begin_exchange(presented, key))
            .clone();
        exchange.await
    }

    fn begin_exchange(self: Arc<Self>, presented: Presented, key: Arc<ApiKey>) -> Exchange {
        let task = tokio::spawn(async move {
            let outcome = self.log_in(&key, presented.zone).await.map(Arc::new);
            if let Ok(session) = &outcome {
                self.keep(presented, session.clone());
            }
            self.pending
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&presented);
            outcome
        });
        let outcome = task.map(|joined| {
            joined.unwrap_or_else(|_| {
                Err(Problem::new(Reason::Internal, "the login was interrupted"))
            })
        });
        outcome.boxed().shared()
    }

    fn keep(&self, presented: Presented, session: Arc<Session>) {
        let known = self.known.pin();
        if known.len() > SWEEP_ABOVE {
            let now = self.ambient.clock.since_boot();
            known.retain(|_, session| now < session.usable_until);
        }
        known.insert(presented, session);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::manual::ManualClock;

    fn sessions() -> (Arc<ManualClock>, Feed, Arc<Sessions>) {
        let (clock, ambient) = ManualClock::ambient();
        let feed = Feed::new(ambient.clone());
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        (
            clock,
            feed.clone(),
            Arc::new(Sessions::new(channel, ambient, feed)),
        )
    }

    fn session(sessions: &Sessions) -> Arc<Session> {
        Arc::new(Session {
            api_key_id: "apk_0000000000000000000001".parse().unwrap(),
            agent_ids: Arc::new([]),
            validator: false,
            zone: Zone::LocalMachine,
            usable_until: sessions.ambient.clock.since_boot() + Duration::from_secs(10),
            bearer: MetadataValue::from_static("Bearer x"),
        })
    }

    const PRESENTED: Presented = Presented {
        key_hash: [1; 32],
        zone: Zone::LocalMachine,
    };

    #[tokio::test]
    async fn a_session_is_used_only_while_revocations_would_be_heard() {
        let (clock, feed, sessions) = sessions();
        sessions.keep(PRESENTED, session(&sessions));
        assert!(sessions.kept(PRESENTED).is_none(), "nothing was ever heard");
        feed.hear_now();
        sessions.keep(PRESENTED, session(&sessions));
        assert!(sessions.kept(PRESENTED).is_some());
        clock.advance(Duration::from_secs(6));
        assert!(
            sessions.kept(PRESENTED).is_none(),
            "silence for six seconds"
        );
        feed.hear_now();
        assert!(
            sessions.kept(PRESENTED).is_none(),
            "silence has emptied the cache"
        );
    }

    #[tokio::test]
    async fn a_session_ends_and_is_not_another_keys_or_zones() {
        let (clock, feed, sessions) = sessions();
        feed.hear_now();
        sessions.keep(PRESENTED, session(&sessions));
        assert!(
            sessions
                .kept(Presented {
                    key_hash: [2; 32],
                    ..PRESENTED
                })
                .is_none()
        );
        assert!(
            sessions
                .kept(Presented {
                    zone: Zone::External,
                    ..PRESENTED
                })
                .is_none()
        );
        clock.advance(Duration::from_secs(10));
        feed.hear_now();
        assert!(sessions.kept(PRESENTED).is_none());
    }

    #[tokio::test]
    async fn a_revoked_key_is_forgotten() {
        let (_clock, feed, sessions) = sessions();
        feed.hear_now();
        sessions.keep(PRESENTED, session(&sessions));
        let stop = CancellationToken::new();
        let follower = tokio::spawn(sessions.clone().follow_revocations(stop.clone()));
        while feed.subscribers() == 0 {
            tokio::task::yield_now().await;
        }
        feed.tell(Change::ApiKeyRevoked(
            "apk_0000000000000000000001".parse().unwrap(),
        ));
        while sessions.kept(PRESENTED).is_some() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        follower.await.unwrap();
    }
}
