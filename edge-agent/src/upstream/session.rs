//! Sessions, of presented API keys and presented themselves: kept by the hash
//! of what was presented, and used without asking while the `identity` stream
//! is fresh.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use authguardian_proto::{
    credential::{PresentedKey, SessionToken},
    ids::{AgentId, ApiKeyId, SessionId},
    network::Networks,
    rate::RateLimits,
    reason::{Problem, Reason},
    zone::Zone,
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use time::OffsetDateTime;
use tonic::metadata::{Ascii, MetadataValue};

use super::{Change, Follower, exchange::Told};
use crate::{clock::Ambient, dial::Channel, freshness::Freshness};

/// With more sessions than this, ended ones are dropped before one is added.
const SWEEP_ABOVE: usize = 1024;

/// How long a session that cannot be confirmed waits for another one.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// How long nobody is asked to confirm sessions after that was in vain: whoever works
/// offline does not wait for it with every call.
const IN_VAIN: Duration = Duration::from_secs(10);

/// What the control plane said about a key at this machine.
pub struct Session {
    /// Which session; renewals keep it.
    pub id: SessionId,
    /// Which key.
    pub api_key_id: ApiKeyId,
    /// Whom it may speak for.
    pub agent_ids: Arc<[AgentId]>,
    /// Whether it may check other agents' tokens.
    pub validator: bool,
    /// The zone that counts.
    pub zone: Zone,
    /// How often the key may be used.
    pub rate_limits: Arc<RateLimits>,
    /// Where the key may be used from; none: anywhere.
    pub allowed_networks: Networks,
    /// When it ends, by the control plane's clock.
    pub expires_at: OffsetDateTime,
    /// Since boot: when it ends.
    pub ends: Duration,
    /// Since boot: when it is no longer used.
    pub usable_until: Duration,
    /// `Bearer …`, marked sensitive.
    pub(super) bearer: MetadataValue<Ascii>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("api_key_id", &self.api_key_id)
            .field("agent_ids", &self.agent_ids)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Refuses it in a zone that is trusted less than the one that it was made for.
    ///
    /// # Errors
    /// `ZONE_FORBIDS`.
    pub fn check_zone(&self, zone: Zone) -> Result<(), Problem> {
        if zone >= self.zone {
            return Ok(());
        }
        let (made, used) = (self.zone.as_str(), zone.as_str());
        let detail =
            format!("this session was made for the zone `{made}` and cannot be used from `{used}`");
        Err(Problem::new(Reason::ZoneForbids, detail))
    }

    /// Of a key, for tests that need no control plane.
    #[cfg(test)]
    pub(super) fn of_nobody(api_key_id: ApiKeyId) -> Self {
        Self {
            id: SessionId::from_uuid(uuid::Uuid::nil()),
            api_key_id,
            agent_ids: Arc::new([]),
            validator: false,
            zone: Zone::LocalMachine,
            rate_limits: Arc::default(),
            allowed_networks: Networks::default(),
            expires_at: OffsetDateTime::UNIX_EPOCH,
            ends: Duration::MAX,
            usable_until: Duration::MAX,
            bearer: MetadataValue::from_static("Bearer x"),
        }
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
    /// By the hash of a token that was presented, or made here for a client.
    tokens: papaya::HashMap<[u8; 32], Arc<Session>>,
    /// What a client's session has become by its last renewal.
    latest: papaya::HashMap<SessionId, Arc<Session>>,
    /// Exchanges that are under way, each shared by all who wait for it.
    pending: Mutex<HashMap<Presented, Exchange>>,
    /// Counts revocations: a session that was asked for before one is not kept.
    revocations: AtomicU64,
    /// Since boot, in milliseconds: when somebody was asked in vain, from 1.
    asked_in_vain: AtomicU64,
    /// How long after their end sessions of keys go on while nobody answers.
    offline: Duration,
}

impl Sessions {
    /// None yet; it has to follow the feed that fills `freshness`. For `offline` after
    /// its end the session of a key goes on here, where nobody answers.
    pub fn new(
        channel: Channel,
        ambient: Ambient,
        freshness: Arc<Freshness>,
        offline: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            channel,
            ambient,
            freshness,
            known: papaya::HashMap::new(),
            tokens: papaya::HashMap::new(),
            latest: papaya::HashMap::new(),
            pending: Mutex::new(HashMap::new()),
            revocations: AtomicU64::new(0),
            asked_in_vain: AtomicU64::new(0),
            offline,
        })
    }

    /// Whether somebody was asked in vain just now.
    fn is_in_vain(&self) -> bool {
        let asked = self.asked_in_vain.load(Ordering::Relaxed);
        let asked = Duration::from_millis(asked);
        !asked.is_zero() && self.ambient.clock.since_boot() < asked + IN_VAIN
    }

    fn was_in_vain(&self) {
        let now = self.ambient.clock.since_boot().as_millis();
        let now = u64::try_from(now).unwrap_or(u64::MAX).max(1);
        self.asked_in_vain.store(now, Ordering::Relaxed);
    }

    /// The session of a key: the kept one, else a fresh one. While the control
    /// plane cannot be reached the kept one goes on without being confirmed, for a
    /// while also after its end: what is forwarded with it is checked there, and what is
    /// answered here is bounded by its own staleness, or is handed over later and
    /// checked then.
    ///
    /// # Errors
    /// `API_KEY_…`, `SIGNATURE_INVALID` of a key that is not right, and
    /// `UNAVAILABLE`.
    pub async fn of(
        self: &Arc<Self>,
        key: &Arc<PresentedKey>,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: key.hash(),
            zone,
        };
        let asking = self.exchange(presented, key.clone(), client);
        match self.kept(presented) {
            Some(session) if self.freshness.is_fresh() => Ok(session),
            Some(session) => self.confirmed(session, asking).await,
            None => match self.ended(presented).filter(|_| !self.freshness.is_fresh()) {
                Some(session) => self.confirmed(session, asking).await,
                None => asking.await,
            },
        }
    }

    /// The session of a presented token: the kept one, else what the control
    /// plane knows of it; as with keys, one that cannot be confirmed goes on.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` for what is no session of this machine,
    /// `SESSION_EXPIRED`, `API_KEY_…`, `ZONE_FORBIDS` from a zone that is
    /// trusted less than the one that it was made for, `UNAVAILABLE`.
    pub async fn of_token(
        &self,
        token: &SessionToken,
        zone: Zone,
    ) -> Result<Arc<Session>, Problem> {
        let session = match self.kept_token(token) {
            None => self.look_up(token).await?,
            Some(session) if self.freshness.is_fresh() => session,
            Some(session) => self.confirmed(session, self.look_up(token)).await?,
        };
        session.check_zone(zone)?;
        Ok(session)
    }

    /// What a client's session has become by its last renewal here.
    pub fn latest(&self, id: SessionId) -> Option<Arc<Session>> {
        self.latest.pin().get(&id).cloned()
    }

    /// Takes a session that was made for a client.
    pub(super) fn take(
        &self,
        told: &Told,
        asked_at: Duration,
    ) -> Result<(Arc<Session>, SessionToken), Problem> {
        let heard = self.revocations.load(Ordering::Acquire);
        let token = told.token()?;
        let session = Arc::new(told.session(asked_at, Duration::ZERO)?);
        self.keep_token(&token, session.clone(), heard);
        Ok((session, token))
    }

    /// Drops a session that has ended.
    pub(super) fn forget(&self, id: SessionId) {
        self.revoked(|session| session.id == id);
    }

    fn kept_token(&self, token: &SessionToken) -> Option<Arc<Session>> {
        let tokens = self.tokens.pin();
        let session = tokens.get(&token.hash())?;
        (self.ambient.clock.since_boot() < session.usable_until).then(|| session.clone())
    }

    async fn look_up(&self, token: &SessionToken) -> Result<Arc<Session>, Problem> {
        let heard = self.revocations.load(Ordering::Acquire);
        let session = Arc::new(self.ask_about(token).await?);
        self.keep_token(token, session.clone(), heard);
        Ok(session)
    }

    fn keep_token(&self, token: &SessionToken, session: Arc<Session>, heard: u64) {
        let (tokens, latest) = (self.tokens.pin(), self.latest.pin());
        if tokens.len() > SWEEP_ABOVE {
            let now = self.ambient.clock.since_boot();
            tokens.retain(|_, session| now < session.ends);
            latest.retain(|_, session| now < session.ends);
        }
        let id = session.id;
        latest.update_or_insert(
            id,
            |known| {
                let newer = if known.ends < session.ends {
                    &session
                } else {
                    known
                };
                newer.clone()
            },
            session.clone(),
        );
        tokens.insert(token.hash(), session);
        if self.revocations.load(Ordering::Acquire) != heard {
            tokens.remove(&token.hash());
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
        client: Option<IpAddr>,
    ) -> Result<Arc<Session>, Problem> {
        let presented = Presented {
            key_hash: key.hash(),
            zone,
        };
        match self.kept(presented) {
            Some(session) if !Arc::ptr_eq(&session, refused) => Ok(session),
            _ => self.exchange(presented, key.clone(), client).await,
        }
    }

    /// Whether there is a session of a key, by its hash, that can be used.
    pub fn knows(&self, key_hash: &[u8; 32], zone: Zone) -> bool {
        let presented = Presented {
            key_hash: *key_hash,
            zone,
        };
        self.kept(presented).is_some()
    }

    /// Whether a session is kept, of a key or presented: it was not heard to have
    /// ended, and has not run out.
    pub fn keeps(&self, id: SessionId) -> bool {
        let now = self.ambient.clock.since_boot();
        let is_it = |session: &Arc<Session>| session.id == id && now < session.usable_until;
        self.known.pin().values().any(is_it) || self.tokens.pin().values().any(is_it)
    }

    /// Whether the session of a token can be used.
    pub fn knows_token(&self, token: &SessionToken) -> bool {
        self.kept_token(token).is_some()
    }

    fn kept(&self, presented: Presented) -> Option<Arc<Session>> {
        let known = self.known.pin();
        let session = known.get(&presented)?;
        (self.ambient.clock.since_boot() < session.usable_until).then(|| session.clone())
    }

    /// A session that has ended by itself, not longer ago than it goes on offline.
    fn ended(&self, presented: Presented) -> Option<Arc<Session>> {
        let known = self.known.pin();
        let session = known.get(&presented)?;
        let goes_on = self.ambient.clock.since_boot() < session.ends + self.offline;
        goes_on.then(|| session.clone())
    }

    /// A session that goes on when nobody can confirm it in time.
    async fn confirmed(
        &self,
        session: Arc<Session>,
        asking: impl Future<Output = Result<Arc<Session>, Problem>>,
    ) -> Result<Arc<Session>, Problem> {
        if self.is_in_vain() {
            return Ok(session);
        }
        match tokio::time::timeout(CONFIRMATION, asking).await {
            Ok(Err(problem)) if problem.reason == Reason::Unavailable => {}
            Ok(outcome) => return outcome,
            Err(_) => {}
        }
        self.was_in_vain();
        Ok(session)
    }

    /// Joins the exchange that is under way for this key, or begins one. It
    /// runs to its end even when nobody waits any more, so that the key is
    /// wiped.
    async fn exchange(
        self: &Arc<Self>,
        presented: Presented,
        key: Arc<PresentedKey>,
        client: Option<IpAddr>,
    ) -> Result<Arc<Session>, Problem> {
        let exchange = self
            .pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(presented)
            .or_insert_with(|| self.clone().begin_exchange(presented, key, client))
            .clone();
        exchange.await
    }

    fn begin_exchange(
        self: Arc<Self>,
        presented: Presented,
        key: Arc<PresentedKey>,
        client: Option<IpAddr>,
    ) -> Exchange {
        let task = tokio::spawn(async move {
            let heard = self.revocations.load(Ordering::Acquire);
            let outcome = match key.read() {
                Ok(key) => {
                    let session = self.log_in(&key, presented.zone, client).await;
                    session.map(Arc::new)
                }
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
        self.tokens.pin().retain(|_, session| !ended(session));
    }
}

impl Follower for Sessions {
    fn follow(&self, change: &Change) {
        match change {
            Change::ApiKeyRevoked(id) | Change::ApiKeyChanged(id) => {
                self.revoked(|session| session.api_key_id == *id);
            }
            Change::SessionEnded(id) => self.forget(*id),
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
        let channel = crate::dial::nobody();
        let offline = Duration::from_mins(1);
        let sessions = Sessions::new(channel, ambient, freshness.clone(), offline);
        (clock, freshness, sessions)
    }

    fn session(sessions: &Sessions) -> Arc<Session> {
        let ends = sessions.ambient.clock.since_boot() + Duration::from_secs(10);
        Arc::new(Session {
            id: "ses_0000000000000000000001".parse().unwrap(),
            expires_at: OffsetDateTime::UNIX_EPOCH,
            ends,
            api_key_id: "apk_0000000000000000000001".parse().unwrap(),
            agent_ids: Arc::new([]),
            validator: false,
            zone: Zone::LocalMachine,
            rate_limits: Arc::default(),
            allowed_networks: Networks::default(),
            usable_until: ends,
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
        let of = async || sessions.of(&key(), Zone::LocalMachine, None).await;
        assert!(Arc::ptr_eq(&of().await.unwrap(), &kept));
        clock.advance(Duration::from_secs(6));
        assert!(!freshness.is_fresh());
        assert!(Arc::ptr_eq(&of().await.unwrap(), &kept), "nobody answers");
        clock.advance(Duration::from_secs(4));
        assert!(Arc::ptr_eq(&of().await.unwrap(), &kept), "it has ended");
        clock.advance(Duration::from_mins(1));
        assert_eq!(of().await.unwrap_err().reason, Reason::Unavailable);
    }

    #[tokio::test]
    async fn after_asking_in_vain_nobody_is_asked_for_a_while() {
        let (clock, _, sessions) = sessions();
        let kept = session(&sessions);
        sessions.keep(PRESENTED, kept.clone(), 0);
        let refused = || async { Err(Problem::new(Reason::ApiKeyRevoked, "x")) };
        let asked = async || sessions.confirmed(kept.clone(), refused()).await.is_err();
        assert!(asked().await);
        let away = async { Err(Problem::new(Reason::Unavailable, "x")) };
        assert!(sessions.confirmed(kept.clone(), away).await.is_ok());
        assert!(!asked().await);
        clock.advance(IN_VAIN);
        assert!(asked().await);
    }

    #[tokio::test]
    async fn a_presented_session_is_used_until_it_has_ended_and_from_no_lesser_zone() {
        let (_, freshness, sessions) = sessions();
        let token = SessionToken::new("a.b.c").unwrap();
        let kept = session(&sessions);
        sessions.keep_token(&token, kept.clone(), 0);
        freshness.prove(crate::freshness::Proof {
            asked_at: freshness.since_boot(),
            server_time_ms: 0,
        });
        let of = async |zone| sessions.of_token(&token, zone).await;
        assert!(Arc::ptr_eq(&of(Zone::LocalMachine).await.unwrap(), &kept));
        for zone in [Zone::TrustedNetwork, Zone::External] {
            assert_eq!(of(zone).await.unwrap_err().reason, Reason::ZoneForbids);
        }
        let ended = |id: &str| sessions.follow(&Change::SessionEnded(id.parse().unwrap()));
        ended("ses_0000000000000000000002");
        assert!(sessions.kept_token(&token).is_some(), "another session");
        ended("ses_0000000000000000000001");
        assert!(sessions.kept_token(&token).is_none());
        sessions.keep_token(&token, kept, 1);
        assert!(sessions.kept_token(&token).is_none(), "asked for before it");
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
