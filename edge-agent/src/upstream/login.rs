//! A presented credential and the session that it stands for, for one request.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use authguardian_proto::{
    credential::{PresentedKey, SessionToken},
    identity::v1::{EndSessionRequest, RenewSessionRequest},
    reason::{Problem, Reason},
    zone::Zone,
};

use super::{Credential, Session, Upstream, exchange::Told};

/// Who is calling, as far as the control plane is concerned. It lives as long
/// as its request; the key is wiped with it.
#[derive(Debug)]
pub struct Login {
    session: ArcSwap<Session>,
    key: Mutex<Option<Arc<PresentedKey>>>,
    zone: Zone,
    client: Option<IpAddr>,
    /// Whether a session was presented, and no key.
    by_session: bool,
}

impl Login {
    /// The session now.
    pub fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// Whether a session was presented, rather than a key.
    pub fn is_by_session(&self) -> bool {
        self.by_session
    }

    /// Wipes the key, before a request turns into a long stream.
    pub fn forget_key(&self) {
        *self.key.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The same for what outlives the request: without the key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self {
            session: ArcSwap::new(self.session()),
            key: Mutex::new(None),
            zone: self.zone,
            client: self.client,
            by_session: self.by_session,
        }
    }

    /// Of a key, for tests that need no control plane.
    #[cfg(test)]
    pub(crate) fn of_nobody(key: authguardian_proto::ids::ApiKeyId) -> Self {
        Self {
            session: ArcSwap::from_pointee(Session::of_nobody(key)),
            key: Mutex::new(None),
            zone: Zone::LocalMachine,
            client: None,
            by_session: false,
        }
    }

    /// Takes another session from now on.
    pub(super) fn continue_with(&self, session: Arc<Session>) {
        self.session.store(session);
    }

    fn key(&self) -> Option<Arc<PresentedKey>> {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Upstream {
    /// Finds the session of a credential: the presented one, the one kept for
    /// the key, or a fresh one. `client` is where it was presented from;
    /// `None` for the Unix socket.
    ///
    /// # Errors
    /// As [`super::Sessions::of`] and [`super::Sessions::of_token`].
    pub async fn log_in(
        &self,
        credential: Credential,
        zone: Zone,
        client: Option<IpAddr>,
    ) -> Result<Login, Problem> {
        let by_session = matches!(credential, Credential::Session(_));
        let (session, key) = match credential {
            Credential::Key(key) => {
                let key = Arc::new(key);
                (self.sessions.of(&key, zone, client).await?, Some(key))
            }
            Credential::Session(token) => (self.sessions.of_token(&token, zone).await?, None),
        };
        Ok(Login {
            session: ArcSwap::new(session),
            key: Mutex::new(key),
            zone,
            client,
            by_session,
        })
    }

    /// Another session after the control plane refused this one.
    pub(super) async fn log_in_again(&self, login: &Login) -> Result<(), Problem> {
        let key = login.key().ok_or_else(|| {
            Problem::new(
                Reason::SessionExpired,
                "the session has ended; log in again",
            )
        })?;
        let session = self
            .sessions
            .replace(&login.session(), &key, login.zone, login.client)
            .await?;
        login.continue_with(session);
        Ok(())
    }

    /// Makes another token of a presented session.
    ///
    /// # Errors
    /// `SESSION_EXPIRED`, `API_KEY_…`, `UNAVAILABLE`.
    pub async fn renew(&self, login: &Login) -> Result<(Arc<Session>, SessionToken), Problem> {
        let asked_at = self.ambient.clock.since_boot();
        let request = RenewSessionRequest {
            request_id: self.ambient.uuid().to_string(),
        };
        let renewed = self.renew_session(login, request).await?;
        let told = Told::renewed(renewed, login.session().api_key_id);
        self.sessions.take(&told, asked_at)
    }

    /// Ends a presented session.
    ///
    /// # Errors
    /// `UNAVAILABLE`, and `OUTCOME_UNKNOWN` when it may have ended.
    pub async fn end(&self, login: &Login) -> Result<(), Problem> {
        let session = login.session();
        let request = EndSessionRequest {
            request_id: self.ambient.uuid().to_string(),
        };
        match self.end_session(login, request).await {
            Ok(_) => {}
            // the reply was lost: whether it has ended can be asked for
            Err(problem) if problem.reason == Reason::OutcomeUnknown => {
                match self.sessions.session_stands(&session).await {
                    Err(told) if told.reason == Reason::SessionExpired => {}
                    _ => return Err(problem),
                }
            }
            Err(problem) if problem.reason == Reason::SessionExpired => {}
            Err(problem) => return Err(problem),
        }
        self.sessions.forget(session.id);
        Ok(())
    }
}
