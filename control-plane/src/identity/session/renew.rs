//! Renewing a session: another token of it, without proving the key again.

use std::sync::Arc;

use authguardian_proto::{ids::AgentId, reason::Reason};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{MadeSession, Session, end, end_of};
use crate::{
    audit::{self, Context, Entry},
    db::request::Begun,
    error::{Error, Result},
    identity::{ApiKey, Identity, api_key::unknown, machine::active_machine, store},
};

/// How long after its key was proved a session can live at most.
pub(super) const MAX_LIFE: Duration = Duration::hours(12);

/// What a renewal came to; the token is signed again for a repeat.
#[derive(Debug, Serialize, Deserialize)]
struct Renewed {
    iat: i64,
    exp: i64,
    agents: Vec<AgentId>,
    validator: bool,
}

impl Identity {
    /// Makes another token of a session, with what its key and machine may
    /// now; the session's own bounds stay.
    ///
    /// # Errors
    /// `SESSION_EXPIRED` for one that was ended or is too old,
    /// `AGENT_MISMATCH` when it may speak for nobody any more,
    /// `REQUEST_ID_REUSED`, and those of the key and the machine.
    pub async fn renew_session(&self, context: Context, session: &Session) -> Result<MadeSession> {
        let now = self.ambient.clock.now();
        let key = context.request_key(&self.ambient, "identity.renew_session", &session.jti)?;
        let mut request = match self.db.begin_request(key, now).await? {
            Begun::Told(renewed) => {
                let mut connection = self.db.read().await?;
                let key = self.key_of(&mut connection, session).await?;
                return self.renewed(session, renewed, key);
            }
            Begun::New(request) => request,
        };
        let connection = request.connection();
        // keys before machines, as decisions lock them
        let key = store::api_key(connection, session.api_key_id).await?;
        let at = active_machine(connection, session.machine).await?;
        let key = key.ok_or_else(unknown)?;
        key.check(now)?;
        if store::is_session_ended(connection, session.jti).await? {
            return Err(end::ended());
        }
        let last = last_end(session)?;
        if last <= now {
            return Err(Error::new(
                Reason::SessionExpired,
                "this session cannot be renewed any longer; log in again",
            ));
        }
        let mut agents = session.agents.clone();
        agents.retain(|agent| key.agent_ids.contains(agent) && at.terms.agents.includes(agent));
        if agents.is_empty() {
            return Err(Error::new(
                Reason::AgentMismatch,
                "this session may speak for no agent any more; log in again",
            ));
        }
        let renewed = Renewed {
            iat: now.unix_timestamp(),
            exp: end_of(now, key.expires_at).min(last).unix_timestamp(),
            agents,
            validator: session.validator && key.validator,
        };
        let entry = Entry::ok(context, "session.renew", session.jti.to_string());
        audit::append(request.connection(), now, &[entry]).await?;
        request.finish(&renewed).await?;
        self.renewed(session, renewed, key)
    }

    fn renewed(&self, session: &Session, renewed: Renewed, key: ApiKey) -> Result<MadeSession> {
        let session = Arc::new(Session {
            iat: renewed.iat,
            exp: renewed.exp,
            agents: renewed.agents,
            validator: renewed.validator,
            ..session.clone()
        });
        Ok(MadeSession {
            token: self.sign_session(&session)?,
            session,
            rate_limits: key.rate_limits,
            allowed_networks: key.allowed_networks,
        })
    }
}

fn last_end(session: &Session) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(session.auth_time)
        .map(|proved| proved + MAX_LIFE)
        .map_err(Error::internal)
}
