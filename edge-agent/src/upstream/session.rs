//! Sessions of presented API keys: made by a signed nonce, kept by the key's
//! hash, and used without asking while the `identity` stream is fresh.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{
    credential::PresentedKey,
    ids::{AgentId, ApiKeyId},
    reason::{Problem, Reason},
    zone::Zone,
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{Change, Follower};
use crate::{clock::Ambient, freshness::Freshness};

/// With more sessions than this, ended ones are dropped before one is added.
const SWEEP_ABOVE: usize = 1024;

/// How long a session that cannot be confirmed waits for another one.
const CONFIRMATION: Duration = Duration::from_secs(1);

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
    freshness: Arc<Freshness>,
    known: papaya::HashMap<Presented, Arc<Session>>,
    /// Exchanges that are under way, each shared by all who wait for it.
    pending: Mutex<HashMap<Presented, Exchange>>,
    /// Counts revocations: a session that was asked for before one is not kept.
    revocations: AtomicU64,
}

impl Sessions {
    /// None yet; it has to follow the feed that fills `freshness`.
    pub fn new(channel: Channel, ambient: Ambient, freshness: Arc<Freshness>) -> Arc<Self> {
        Arc::new(Self {
            channel,
            ambient,
            freshness,
            known: papaya::HashMap::new(),
            pending: Mutex::new(HashMap::new()),
            revocations: AtomicU64::new(0),
        })
    }

    /// The session of a key: the kept one, else a fresh one. While the control
    /// plane cannot be reached the kept one goes on without being confirmed:
    /// what is forwarded with it is checked there, and what is answered here
    /// is bounded by its own staleness.
    ///
    /// # Errors
    /// `API_KEY_…`, `SIGNATURE_INVALID` of a key that is not right, and
    /// `UNAVAILABLE`.
    pub async fn of(
        self: &Arc<Self>,
        key: &Arc<PresentedKey>,
        zone: Zone,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: key.hash(),
            zone,
        };
        let Some(session) = self.kept(presented) else {
            return self.exchange(presented, key.clone()).await;
        };
        if self.freshness.is_fresh() {
            return Ok(session);
        }
        match tokio::time::timeout(CONFIRMATION, self.exchange(presented, key.clone())).await {
            Ok(Err(problem)) if problem.reason == Reason::Unavailable => Ok(session),
            Ok(outcome) => outcome,
            Err(_) => Ok(session),
        }
    }

    /// A session to replace one that the control plane no longer takes.
    ///
    /// # Errors
    /// As [`Sessions::of`].
    pub async fn replace(
        self: &Arc<Self>,
        refused: &Arc<Session>,
        key: &Arc<PresentedKey>,
        zone: Zone,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: key.hash(),
            zone,
        };
        match self.kept(presented) {
            Some(session) if !Arc::ptr_eq(&session, refused) => Ok(session),
            _ => self.exchange(presented, key.clone()).await,
        }
    }

    fn kept(&self, presented: Presented) -> Option<Arc<Session>> {
        let known = self.known.pin();
        let session = known.get(&presented)?;
        (self.ambient.clock.since_boot() < session.usable_until).then(|| session.clone())
    }

    /// Joins the exchange that is under way for this key, or begins one. It
    /// runs to its end even when nobody waits any more, so that the key is
    /// wiped.
    async fn exchange(
        self: &Arc<Self>,
        presented: Presented,
        key: Arc<PresentedKey>,
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

    fn begin_exchange(self: Arc<Self>, presented: Presented, key: Arc<PresentedKey>) -> Exchange {
        let task = tokio::spawn(async move {
            let heard = self.revocations.load(Ordering::Acquire);
            let outcome = match key.read() {
                Ok(key) => self.log_in(&key, presented.zone).await.map(Arc::new),
                Err(error) => Err(Problem::new(Reason::Unauthenticated, error.to_string())),
            };
            if let Ok(session) = &outcome {
                self.keep(presented, session.clone(), heard);
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

    /// Keeps a session that was asked for when `heard` revocations had been
    /// heard; one that came since may be its own.
    fn keep(&self, presented: Presented, session: Arc<Session>, heard: u64) {
        let known = self.known.pin();
        if known.len() > SWEEP_ABOVE {
            let now = self.ambient.clock.since_boot();
            known.retain(|_, session| now < session.usable_until);
        }
        known.insert(presented, session);
        if self.revocations.load(Ordering::Acquire) != heard {
            known.remove(&presented);
        }
    }

    fn revoked(&self, ended: impl Fn(&Session) -> bool) {
        // counted first: whoever keeps a session after this looks again
        self.revocations.fetch_add(1, Ordering::AcqRel);
        self.known.pin().retain(|_, session| !ended(session));
    }
}

impl Follower for Sessions {
    fn follow(&self, change: &Change) {
        match change {
            Change::ApiKeyRevoked(id) | Change::ApiKeyChanged(id) => {
                self.revoked(|session| session.api_key_id == *id)
            }
            Change::Machine { .. } | Change::Everything => self.revoked(|_| true),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::credential::ApiKey;

    use super::*;
    use crate::clock::manual::ManualClock;

    fn sessions() -> (Arc<ManualClock>, Arc<Freshness>, Arc<Sessions>) {
        let (clock, ambient) = ManualClock::ambient();
        let freshness = Freshness::new(ambient.clock.clone());
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let sessions = Sessions::new(channel, ambient, freshness.clone());
        (clock, freshness, sessions)
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

    fn key() -> Arc<PresentedKey> {
        let key = ApiKey::new("apk_0000000000000000000001".parse().unwrap(), [1; 32]);
        Arc::new(PresentedKey::new(&key.expose()))
    }

    fn presented() -> Presented {
        Presented {
            key_hash: key().hash(),
            zone: Zone::LocalMachine,
        }
    }

    #[tokio::test]
    async fn a_fresh_session_is_used_without_asking_and_a_stale_one_after_asking_in_vain() {
        let (clock, freshness, sessions) = sessions();
        let kept = session(&sessions);
        sessions.keep(presented(), kept.clone(), 0);
        freshness.prove(crate::freshness::Proof {
            asked_at: freshness.since_boot(),
            server_time_ms: 0,
        });
        let of = async || sessions.of(&key(), Zone::LocalMachine).await;
        assert!(Arc::ptr_eq(&of().await.unwrap(), &kept));
        clock.advance(Duration::from_secs(6));
        assert!(!freshness.is_fresh());
        assert!(Arc::ptr_eq(&of().await.unwrap(), &kept), "nobody answers");
        clock.advance(Duration::from_secs(4));
        assert_eq!(of().await.unwrap_err().reason, Reason::Unavailable);
    }

    #[tokio::test]
    async fn a_session_is_not_another_keys_or_zones() {
        let (_, _, sessions) = sessions();
        sessions.keep(PRESENTED, session(&sessions), 0);
        assert!(sessions.kept(PRESENTED).is_some());
        for other in [
            Presented {
                key_hash: [2; 32],
                ..PRESENTED
            },
            Presented {
                zone: Zone::External,
                ..PRESENTED
            },
        ] {
            assert!(sessions.kept(other).is_none());
        }
    }

    #[tokio::test]
    async fn a_revoked_key_is_forgotten_also_while_its_session_is_on_its_way() {
        let (_, _, sessions) = sessions();
        let revoked = |id: &str| sessions.follow(&Change::ApiKeyRevoked(id.parse().unwrap()));
        sessions.keep(PRESENTED, session(&sessions), 0);
        revoked("apk_0000000000000000000002");
        assert!(sessions.kept(PRESENTED).is_some(), "another key");
        revoked("apk_0000000000000000000001");
        assert!(sessions.kept(PRESENTED).is_none());
        sessions.keep(PRESENTED, session(&sessions), 1);
        assert!(sessions.kept(PRESENTED).is_none(), "asked for before it");
        sessions.keep(PRESENTED, session(&sessions), 2);
        sessions.follow(&Change::Everything);
        assert!(sessions.kept(PRESENTED).is_none());
        sessions.keep(PRESENTED, session(&sessions), 3);
        sessions.follow(&Change::Machine { refused: None });
        assert!(sessions.kept(PRESENTED).is_none());
    }
}
