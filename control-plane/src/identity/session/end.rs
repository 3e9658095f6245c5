//! Sessions that their holders have ended. What a token says cannot be taken
//! back, so every control plane keeps in memory which sessions have ended, for
//! as long as a token of theirs could live; each hears of the others' at once.

use authguardian_proto::{ids::SessionId, reason::Reason};
use time::{Duration, OffsetDateTime};

use super::{SESSION_TTL, Session};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    events::{self, Change, ChangeBody, Stream},
    identity::{Identity, store},
};

/// How long it is remembered that a session has ended: a token may be made by
/// a renewal that was under way just then.
pub(super) const KEPT: Duration = SESSION_TTL.saturating_mul(2);

/// How far back is looked at the slow beat; ends further back were read, or
/// heard of, before.
const LOOK_BACK: Duration = Duration::minutes(1);

/// The ended sessions, and when they were.
#[derive(Debug, Default)]
pub(in crate::identity) struct Ended(papaya::HashMap<SessionId, OffsetDateTime>);

impl Ended {
    /// Refuses a session that has ended.
    pub(super) fn check(&self, session: SessionId) -> Result<()> {
        if self.0.pin().contains_key(&session) {
            return Err(ended());
        }
        Ok(())
    }

    fn insert(&self, session: SessionId, at: OffsetDateTime) {
        self.0.pin().insert(session, at);
    }

    pub(super) fn forget_before(&self, time: OffsetDateTime) {
        self.0.pin().retain(|_, ended_at| *ended_at >= time);
    }
}

impl Identity {
    /// Ends a session; every token of it is refused once this returns.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`, `OUTCOME_UNKNOWN`, `UNAVAILABLE`.
    pub async fn end_session(&self, context: Context, session: &Session) -> Result<()> {
        let now = self.ambient.clock.now();
        let id = session.jti;
        let key = context.request_key(&self.ambient, "identity.end_session", &id)?;
        let mut request = match self.db.begin_revocation_request(key, now).await? {
            Begun::Told(()) => return Ok(()),
            Begun::New(request) => request,
        };
        store::insert_ended_session(request.connection(), id, now).await?;
        let entry = Entry::ok(context, "session.end", id.to_string());
        audit::append(request.connection(), now, &[entry]).await?;
        let change = ChangeBody::SessionEnded { session_id: id };
        events::append(request.connection(), Stream::Identity, now, &[change]).await?;
        request.finish(&()).await?;
        self.ended.insert(id, now);
        Ok(())
    }

    /// Reads which sessions have ended, all of them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(in crate::identity) async fn read_ended_sessions(&self) -> Result<()> {
        self.read_ended_since(KEPT).await
    }

    /// Reads which sessions have ended lately, in case this process did not
    /// hear of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reload_ended_sessions(&self) -> Result<()> {
        self.read_ended_since(LOOK_BACK).await
    }

    async fn read_ended_since(&self, back: Duration) -> Result<()> {
        let since = self.ambient.clock.now() - back;
        let mut connection = self.db.read().await?;
        for (session, ended_at) in store::sessions_ended_since(&mut connection, since).await? {
            self.ended.insert(session, ended_at);
        }
        Ok(())
    }

    /// Takes what others have published.
    pub(in crate::identity) fn hear_ended_sessions(&self, changes: &[Change]) {
        for change in changes {
            if let ChangeBody::SessionEnded { session_id } = change.body {
                self.ended.insert(session_id, change.occurred_at);
            }
        }
    }
}

pub(super) fn ended() -> Error {
    Error::new(
        Reason::SessionExpired,
        "this session was ended; log in again",
    )
}
