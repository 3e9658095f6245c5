//! MCP sessions: whose they are, and when they have been idle for too long.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authguardian_proto::{
    ids::ApiKeyId,
    reason::{Problem, Reason},
};
use rmcp::transport::streamable_http_server::session::{
    SessionManager, local::LocalSessionManager,
};
use tokio::time::Instant;

/// A session without an open stream ends after this long without a request.
const IDLE: Duration = Duration::from_mins(30);
const SWEEP_EVERY: Duration = Duration::from_mins(1);
const MAX_SESSIONS: usize = 4096;
/// So that one key cannot take them all.
const MAX_SESSIONS_OF_A_KEY: usize = 1024;

/// The sessions of `/mcp`.
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    known: Mutex<HashMap<String, Session>>,
}

struct Session {
    owner: ApiKeyId,
    last_used: Instant,
    open_streams: usize,
}

/// Counts one open stream until it is dropped.
pub(super) struct OpenStream {
    sessions: Arc<Sessions>,
    id: String,
}

impl Sessions {
    pub(super) fn new(manager: Arc<LocalSessionManager>) -> Arc<Self> {
        Arc::new(Self {
            manager,
            known: Mutex::new(HashMap::new()),
        })
    }

    /// Whether no session of a key can be added now.
    pub(super) fn are_full(&self, key: ApiKeyId) -> bool {
        let known = self.lock();
        let of_key = known.values().filter(|session| session.owner == key);
        known.len() >= MAX_SESSIONS || of_key.count() >= MAX_SESSIONS_OF_A_KEY
    }

    /// A session was begun by a key.
    pub(super) fn add(&self, id: &str, owner: ApiKeyId) {
        let session = Session {
            owner,
            last_used: Instant::now(),
            open_streams: 0,
        };
        self.lock().insert(id.to_owned(), session);
    }

    /// A request names a session: its own passes, an unknown one is left to
    /// the transport's own answer.
    pub(super) fn enter(&self, id: &str, key: ApiKeyId) -> Result<(), Problem> {
        match self.lock().get_mut(id) {
            Some(session) if session.owner != key => {
                let detail = "this MCP session was begun with another API key";
                Err(Problem::new(Reason::PermissionDenied, detail))
            }
            Some(session) => {
                session.last_used = Instant::now();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a stream; `None` for an unknown session.
    pub(super) fn open_stream(self: &Arc<Self>, id: &str) -> Option<OpenStream> {
        self.lock().get_mut(id)?.open_streams += 1;
        Some(OpenStream {
            sessions: self.clone(),
            id: id.to_owned(),
        })
    }

    /// A session was ended.
    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Ends idle sessions, for ever.
    pub(super) async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            for id in self.take_idle(Instant::now()) {
                if let Err(error) = self.manager.close_session(&id.as_str().into()).await {
                    tracing::debug!(%error, "an idle MCP session had ended already");
                }
            }
        }
    }

    fn take_idle(&self, now: Instant) -> Vec<String> {
        let idle = |_: &String, session: &mut Session| {
            session.open_streams == 0 && now.duration_since(session.last_used) >= IDLE
        };
        self.lock().extract_if(idle).map(|(id, _)| id).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.lock().get_mut(&self.id) {
            session.open_streams -= 1;
            session.last_used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(uuid::Uuid::from_u128(number))
    }

    #[tokio::test]
    async fn a_session_belongs_to_the_key_that_began_it() {
        let sessions = Sessions::new(Arc::default());
        sessions.add("s", key(1));
        assert!(sessions.enter("s", key(1)).is_ok());
        assert_eq!(
            sessions.enter("s", key(2)).unwrap_err().reason,
            Reason::PermissionDenied
        );
        assert!(sessions.enter("unknown", key(2)).is_ok());
    }

    #[tokio::test]
    async fn one_key_cannot_take_all_sessions() {
        let sessions = Sessions::new(Arc::default());
        for number in 0..MAX_SESSIONS_OF_A_KEY {
            assert!(!sessions.are_full(key(1)));
            sessions.add(&number.to_string(), key(1));
        }
        assert!(sessions.are_full(key(1)));
        assert!(!sessions.are_full(key(2)));
    }

    #[tokio::test]
    async fn an_open_stream_keeps_a_session_alive() {
        let sessions = Sessions::new(Arc::default());
        sessions.add("s", key(1));
        let stream = sessions.open_stream("s").unwrap();
        let later = Instant::now() + IDLE + Duration::from_secs(1);
        assert!(sessions.take_idle(later).is_empty());
        drop(stream);
        assert!(sessions.take_idle(Instant::now()).is_empty());
        let later = Instant::now() + IDLE;
        assert_eq!(sessions.take_idle(later), ["s"]);
    }
}
