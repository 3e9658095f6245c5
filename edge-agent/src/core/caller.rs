//! Who is calling, and from where.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    reason::{Code, Problem, Reason},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{AnswerBy, Core, Peer};
use crate::upstream::{Change, Held, Login, Session};

/// How often a long stream asks whether its credential still counts.
const ASK_EVERY: Duration = Duration::from_mins(15);
/// How soon again after no answer.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A session of a key ends with the key at the latest: that is when to ask,
/// times being told in whole seconds.
const AFTER_END: Duration = Duration::from_secs(1);
/// How often the clock is looked at: timers stand still while the machine is
/// suspended, what they wait for does not.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An authenticated caller; lives as long as its request.
#[derive(Debug, Clone)]
pub struct Caller {
    login: Arc<Login>,
    /// Where the call came from.
    pub peer: Peer,
    answer: AnswerBy,
}

impl Caller {
    /// Whoever has logged in, from where that login may be used.
    ///
    /// # Errors
    /// `AGENT_MISMATCH`, `ADDRESS_NOT_ALLOWED`.
    pub(super) fn admitted(login: Login, peer: Peer, answer: AnswerBy) -> Result<Self, Problem> {
        let session = login.session();
        peer.may_present(&session.agent_ids)?;
        peer.is_within(&session.allowed_networks)?;
        Ok(Self {
            login: Arc::new(login),
            peer,
            answer,
        })
    }

    /// The same caller of another message, whose answer has a limit of its own.
    #[must_use]
    pub fn with_answer(&self, answer: AnswerBy) -> Self {
        Self {
            login: self.login.clone(),
            peer: self.peer.clone(),
            answer,
        }
    }

    /// The same caller for what outlives the request: without the key.
    pub(super) fn without_key(&self) -> Self {
        Self {
            login: Arc::new(self.login.without_key()),
            peer: self.peer.clone(),
            answer: AnswerBy::default(),
        }
    }

    /// The limit of the answer that the caller waits for.
    pub(super) fn answer(&self) -> &AnswerBy {
        &self.answer
    }

    /// The API key, as the principal that sessions are bound to.
    pub fn api_key_id(&self) -> ApiKeyId {
        self.session().api_key_id
    }

    pub(super) fn session(&self) -> Arc<Session> {
        self.login.session()
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    pub(super) fn forget_key(&self) {
        self.login.forget_key();
    }

    /// Checks that the caller may speak for an agent.
    pub(super) fn speaks_for(&self, agent: &AgentId) -> Result<(), Problem> {
        if self.session().agent_ids.contains(agent) {
            return Ok(());
        }
        let detail = format!("this credential does not speak for the agent `{agent}`");
        Err(Problem::new(Reason::AgentMismatch, detail).at("agent_id"))
    }

    /// Checks that the caller may ask about an agent's tokens.
    pub(super) fn may_validate_for(&self, agent: &AgentId) -> Result<(), Problem> {
        if self.session().validator {
            Ok(())
        } else {
            self.speaks_for(agent)
        }
    }
}

impl Core {
    /// Keeps a caller's connection usable for as long as its credential counts:
    /// the session of a key is renewed, one that was presented is its client's to
    /// renew. `None` for the latter.
    pub fn hold(&self, caller: &Caller) -> Option<Held> {
        let login = caller.login();
        (!login.is_by_session()).then(|| self.upstream.hold(login))
    }

    /// Checks, for each message of a connection, that the caller who opened it
    /// still counts.
    ///
    /// # Errors
    /// `MACHINE_BANNED`, `MACHINE_EVICTED`, `SESSION_EXPIRED`.
    pub fn go_on(&self, caller: &Caller) -> Result<(), Problem> {
        self.upstream.feed().standing().check()?;
        self.upstream.go_on(caller.login())
    }

    /// Returns when the credential that a caller began a stream with has ended:
    /// an API key that counts no more, or for something else, a session that was ended or has run out,
    /// any when the machine's sessions have ended. The key's secret is wiped at
    /// once. An end is heard on the `identity` stream, and asked for where that
    /// may have missed it.
    pub async fn credential_ended(&self, caller: &Caller) {
        caller.forget_key();
        let mut changes = self.upstream.feed().subscribe();
        let began_with = caller.session();
        let due = (began_with.ends + AFTER_END).max(self.since_boot() + ASK_AGAIN);
        let mut ask_at = due;
        if !self.upstream.sessions().keeps(began_with.id) {
            // its end may have been heard between the call's beginning and here
            ask_at = Duration::ZERO;
        }
        loop {
            let session = self.newest(caller, &began_with);
            let ends = caller.login().is_by_session().then_some(session.ends);
            if ends.is_some_and(|ends| ends <= self.since_boot()) {
                return;
            }
            let look_at = ends.map_or(ask_at, |ends| ends.min(ask_at));
            let wait = look_at.saturating_sub(self.since_boot()).min(LOOK_EVERY);
            match tokio::time::timeout(wait, heard_end(&mut changes, &session)).await {
                Ok(true) => return,
                Ok(false) => ask_at = Duration::ZERO,
                Err(_) => {}
            }
            if self.since_boot() < ask_at {
                continue;
            }
            let asked = self.stands(caller, &session).await;
            let now = self.since_boot();
            ask_at = match asked {
                Ok(()) if now < due => due,
                Ok(()) => now + ASK_EVERY,
                Err(problem) if means_ended(problem.reason) => return,
                Err(_) => now + ASK_AGAIN,
            };
        }
    }

    /// A session that was renewed goes on as what it became.
    fn newest(&self, caller: &Caller, session: &Arc<Session>) -> Arc<Session> {
        let latest = self.upstream.sessions().latest(session.id);
        match latest.filter(|_| caller.login().is_by_session()) {
            Some(latest) if latest.ends > session.ends => latest,
            _ => session.clone(),
        }
    }

    /// Asks whether what a caller has presented still counts.
    pub(super) async fn stands(&self, caller: &Caller, session: &Session) -> Result<(), Problem> {
        let sessions = self.upstream.sessions();
        if caller.login().is_by_session() {
            sessions.session_stands(session).await
        } else {
            sessions.key_stands(session.api_key_id).await
        }
    }

    fn since_boot(&self) -> Duration {
        self.ambient.clock.since_boot()
    }
}

fn means_ended(reason: Reason) -> bool {
    reason.code() == Code::Unauthenticated
        || matches!(reason, Reason::MachineBanned | Reason::MachineEvicted)
}

/// Waits for news of an end: whether it came, rather than that it may have been
/// missed.
async fn heard_end(changes: &mut Receiver<Change>, session: &Session) -> bool {
    loop {
        match changes.recv().await {
            Ok(Change::ApiKeyRevoked(id) | Change::ApiKeyChanged(id))
                if id == session.api_key_id =>
            {
                return true;
            }
            Ok(Change::SessionEnded(id)) if id == session.id => return true,
            Ok(Change::Everything) | Err(RecvError::Lagged(_)) => return false,
            // all sessions that were made here have ended, or the edge ends
            Ok(Change::Machine { .. }) | Err(RecvError::Closed) => return true,
            Ok(_) => {}
        }
    }
}
