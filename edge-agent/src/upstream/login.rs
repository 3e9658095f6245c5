//! A presented key and the session it was exchanged for, for one request.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use authguardian_proto::{
    credential::PresentedKey,
    reason::{Problem, Reason},
    zone::Zone,
};

use super::{Session, Upstream};

/// Who is calling, as far as the control plane is concerned. It lives as long
/// as its request; the key is wiped with it.
#[derive(Debug)]
pub struct Login {
    session: ArcSwap<Session>,
    key: Mutex<Option<Arc<PresentedKey>>>,
    zone: Zone,
}

impl Login {
    /// The session now.
    pub fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// Wipes the key, before a request turns into a long stream.
    pub fn forget_key(&self) {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn key(&self) -> Option<Arc<PresentedKey>> {
        self.key
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Upstream {
    /// Exchanges a key for a session, or takes the kept one.
    ///
    /// # Errors
    /// As [`super::Sessions::of`].
    pub async fn log_in(&self, key: PresentedKey, zone: Zone) -> Result<Login, Problem> {
        let key = Arc::new(key);
        let session = self.sessions.of(&key, zone).await?;
        Ok(Login {
            session: ArcSwap::new(session),
            key: Mutex::new(Some(key)),
            zone,
        })
    }

    /// Another session after the control plane refused this one.
    pub(super) async fn log_in_again(&self, login: &Login) -> Result<(), Problem> {
        let key = login.key().ok_or_else(|| {
            Problem::new(
                Reason::SessionExpired,
                "the session has ended; present the API key again",
            )
        })?;
        let session = self
            .sessions
            .replace(&login.session(), &key, login.zone)
            .await?;
        login.session.store(session);
        Ok(())
    }
}
