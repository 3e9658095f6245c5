//! The sessions of `/mcp`: whose they are, and when they have been idle for too
//! long.

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

use super::bound::{Bound, Place};

const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// A session that was idle for so long makes room for another one of its key.
const REPLACEABLE: Duration = Duration::from_mins(10);

/// The sessions of `/mcp`.
pub(super) struct Sessions {
    manager: Arc<LocalSessionManager>,
    bound: Arc<Bound>,
    /// A session without an open stream ends after this long without a request.
    idle: Duration,
    known: Mutex<HashMap<String, Session>>,
}

struct Session {
    owner: ApiKeyId,
    last_used: Instant,
    open_streams: usize,
    _place: Place,
}

/// Counts one open stream until it is dropped.
pub(super) struct OpenStream {
    sessions: Arc<Sessions>,
    id: String,
}

impl Sessions {
    pub(super) fn new(
        manager: Arc<LocalSessionManager>,
        bound: Arc<Bound>,
        idle: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            manager,
            bound,
            idle,
            known: Mutex::new(HashMap::new()),
        })
    }

    /// A place for one more session of a key, in need that of its longest idle
    /// one.
    pub(super) async fn place(&self, key: ApiKeyId) -> Result<Place, Problem> {
        let full = match self.bound.enter_to_stay(key) {
            Ok(place) => return Ok(place),
            Err(full) => full,
        };
        let Some(id) = self.take_longest_idle(key, Instant::now()) else {
            return Err(full);
        };
        self.close(&id).await;
        self.bound.enter_to_stay(key)
    }

    /// A session was begun by a key.
    pub(super) fn add(&self, id: &str, owner: ApiKeyId, place: Place) {
        let session = Session {
            owner,
            last_used: Instant::now(),
            open_streams: 0,
            _place: place,
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
                self.close(&id).await;
            }
        }
    }

    async fn close(&self, id: &str) {
        if let Err(error) = self.manager.close_session(&id.into()).await {
            tracing::debug!(%error, "an idle MCP session had ended already");
        }
    }

    fn take_idle(&self, now: Instant) -> Vec<String> {
        let idle = |_: &String, session: &mut Session| session.is_idle(now, self.idle);
        self.lock().extract_if(idle).map(|(id, _)| id).collect()
    }

    fn take_longest_idle(&self, key: ApiKeyId, now: Instant) -> Option<String> {
        let mut known = self.lock();
        let replaceable = known
            .iter()
            .filter(|(_, session)| session.owner == key && session.is_idle(now, REPLACEABLE));
        let (id, _) = replaceable.min_by_key(|(_, session)| session.last_used)?;
        let id = id.clone();
        known.remove(&id);
        Some(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn is_idle(&self, now: Instant, at_least: Duration) -> bool {
        self.open_streams == 0 && now.duration_since(self.last_used) >= at_least
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
    use crate::config::Limits;

    const IDLE: Duration = Duration::from_hours(24);

    fn key(number: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn sessions() -> Arc<Sessions> {
        let bound = Bound::of_sessions(&Limits {
            max_sessions: 3,
            max_sessions_per_key: 2,
            ..Limits::default()
        });
        Sessions::new(Arc::default(), bound, IDLE)
    }

    async fn begin(sessions: &Sessions, id: &str, key: ApiKeyId) -> Result<(), Problem> {
        let place = sessions.place(key).await?;
        sessions.add(id, key, place);
        Ok(())
    }

    #[tokio::test]
    async fn a_session_belongs_to_the_key_that_began_it() {
        let sessions = sessions();
        begin(&sessions, "s", key(1)).await.unwrap();
        assert!(sessions.enter("s", key(1)).is_ok());
        assert_eq!(
            sessions.enter("s", key(2)).unwrap_err().reason,
            Reason::PermissionDenied
        );
        assert!(sessions.enter("unknown", key(2)).is_ok());
    }

    #[tokio::test]
    async fn one_key_cannot_take_all_sessions_and_an_ended_one_makes_room() {
        let sessions = sessions();
        begin(&sessions, "a", key(1)).await.unwrap();
        begin(&sessions, "b", key(1)).await.unwrap();
        let refused = begin(&sessions, "c", key(1)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::ResourceExhausted);
        begin(&sessions, "d", key(2)).await.unwrap();
        sessions.forget("a");
        begin(&sessions, "c", key(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_whose_places_are_all_taken_gets_that_of_its_longest_idle_session() {
        let sessions = sessions();
        begin(&sessions, "a", key(1)).await.unwrap();
        begin(&sessions, "b", key(1)).await.unwrap();
        sessions.enter("a", key(1)).unwrap();
        let longest_idle = |key, now| sessions.take_longest_idle(key, now);
        assert_eq!(longest_idle(key(1), Instant::now()), None, "just used");
        let later = Instant::now() + REPLACEABLE;
        assert_eq!(longest_idle(key(2), later), None, "another's");
        let _stream = sessions.open_stream("a").unwrap();
        assert_eq!(longest_idle(key(1), later).as_deref(), Some("b"));
        assert_eq!(longest_idle(key(1), later), None, "it has a stream");
        begin(&sessions, "c", key(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_session_lives_through_idle_hours_and_an_open_stream_keeps_it_for_ever() {
        let sessions = sessions();
        begin(&sessions, "s", key(1)).await.unwrap();
        let stream = sessions.open_stream("s").unwrap();
        let later = Instant::now() + IDLE + Duration::from_secs(1);
        assert!(sessions.take_idle(later).is_empty());
        drop(stream);
        let hours = Instant::now() + IDLE / 2;
        assert!(sessions.take_idle(hours).is_empty());
        let later = Instant::now() + IDLE;
        assert_eq!(sessions.take_idle(later), ["s"]);
    }
}
