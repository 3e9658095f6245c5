//! Logging in by challenge and response: a key's holder signs a nonce and gets
//! a session token, which is a credential of its own at this machine.

use authguardian_proto::{
    credential::{SessionToken, login_message},
    ids::{AgentId, ApiKeyId, SessionId},
    reason::{Problem, Reason},
    zone::Zone,
};
use time::OffsetDateTime;

use super::{Caller, Core, Peer};
use crate::upstream::{Session, SignedNonce};

/// What a key's holder has to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Random bytes, to be sent back.
    pub nonce: Vec<u8>,
    /// The bytes to sign: a fixed text, a zero byte, the nonce.
    pub message: Vec<u8>,
    /// After this the nonce is refused.
    pub expires_at: OffsetDateTime,
}

/// A session as its holder may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Which session; `None` for an API key, whose sessions are the edge's own.
    pub id: Option<SessionId>,
    /// The key that was proved.
    pub api_key_id: ApiKeyId,
    /// Whom it may speak for.
    pub agent_ids: Vec<AgentId>,
    /// Whether it may check other agents' tokens.
    pub validator: bool,
    /// The zone that counts.
    pub zone: Zone,
    /// When it ends; `None` for an API key.
    pub expires_at: Option<OffsetDateTime>,
}

impl Core {
    /// Makes a nonce for a key.
    ///
    /// # Errors
    /// `RATE_LIMITED` after too many wrong proofs, `API_KEY_UNKNOWN`,
    /// `API_KEY_EXPIRED`, `API_KEY_REVOKED`, `UNAVAILABLE`.
    pub async fn challenge(&self, peer: &Peer, key: ApiKeyId) -> Result<Challenge, Problem> {
        let asked = async {
            self.upstream.feed().standing().check()?;
            self.may_prove(peer, key)?;
            let asked = self.upstream.sessions().nonce(key).await;
            if asked.is_err() {
                self.proved(peer, key, &asked);
            }
            asked
        };
        match asked.await {
            Ok((nonce, expires_at)) => Ok(Challenge {
                message: login_message(&nonce),
                nonce,
                expires_at,
            }),
            Err(problem) => {
                self.note_refusal(peer, "login.challenge", Some(key), &problem);
                Err(problem)
            }
        }
    }

    /// Trades a signed nonce for a session.
    ///
    /// # Errors
    /// `RATE_LIMITED` after too many wrong proofs, `NONCE_EXPIRED`, `NONCE_USED`,
    /// `SIGNATURE_INVALID`, `ADDRESS_NOT_ALLOWED`, `API_KEY_…`, `UNAVAILABLE`.
    pub async fn open_session(
        &self,
        peer: &Peer,
        signed: SignedNonce,
    ) -> Result<(SessionInfo, SessionToken), Problem> {
        let key = signed.api_key_id;
        let opened = async {
            self.upstream.feed().standing().check()?;
            self.may_prove(peer, key)?;
            let sessions = self.upstream.sessions();
            let opened = sessions.open(signed, peer.zone(), peer.address()).await;
            self.proved(peer, key, &opened);
            opened
        };
        match opened.await {
            Ok((session, token)) => Ok((info(&session), token)),
            Err(problem) => {
                self.note_refusal(peer, "login.session", Some(key), &problem);
                Err(problem)
            }
        }
    }

    /// Who a caller is.
    pub fn who_is(&self, caller: &Caller) -> SessionInfo {
        let session = caller.session();
        let mut info = info(&session);
        info.zone = session.zone.min(caller.peer.zone());
        if !caller.login().is_by_session() {
            (info.id, info.expires_at) = (None, None);
        }
        info
    }

    /// Makes another token of a caller's session.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for callers with an API key, `SESSION_EXPIRED`,
    /// `API_KEY_…`, `UNAVAILABLE`.
    pub async fn renew_session(
        &self,
        caller: &Caller,
    ) -> Result<(SessionInfo, SessionToken), Problem> {
        needs_session(caller)?;
        self.admit(caller, None, || "session.renew".to_owned())
            .await?;
        let (session, token) = self.upstream.renew(caller.login()).await?;
        Ok((info(&session), token))
    }

    /// Ends a caller's session, and the streams that were opened with it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for callers with an API key, `UNAVAILABLE`,
    /// `OUTCOME_UNKNOWN`.
    pub async fn end_session(&self, caller: &Caller) -> Result<(), Problem> {
        needs_session(caller)?;
        self.upstream.end(caller.login()).await
    }
}

fn needs_session(caller: &Caller) -> Result<(), Problem> {
    if caller.login().is_by_session() {
        return Ok(());
    }
    let detail = "this is for session tokens; an API key has no session of its own to renew or end";
    Err(Problem::new(Reason::InvalidArgument, detail))
}

fn info(session: &Session) -> SessionInfo {
    SessionInfo {
        id: Some(session.id),
        api_key_id: session.api_key_id,
        agent_ids: session.agent_ids.to_vec(),
        validator: session.validator,
        zone: session.zone,
        expires_at: Some(session.expires_at),
    }
}
