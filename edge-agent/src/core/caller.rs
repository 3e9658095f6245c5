//! Who is calling, and from where.

use std::{sync::Arc, time::Duration};

use authguardian_proto::{
    ids::{AgentId, ApiKeyId},
    reason::{Code, Problem, Reason},
};
use tokio::sync::broadcast::error::RecvError;

use super::{AnswerBy, Core, Peer};
use crate::upstream::{Change, Login, Session};

/// How often a long stream asks whether its key still counts.
const ASK_EVERY: Duration = Duration::from_mins(15);
/// How soon again after no answer.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// An authenticated caller; lives as long as its request.
#[derive(Debug, Clone)]
pub struct Caller {
    login: Arc<Login>,
    /// Where the call came from.
    pub peer: Peer,
    answer: AnswerBy,
}

impl Caller {
    pub(super) fn new(login: Login, peer: Peer, answer: AnswerBy) -> Self {
        Self {
            login: Arc::new(login),
            peer,
            answer,
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
        let detail = format!("this API key does not speak for the agent `{agent}`");
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
    /// Returns when an API key no longer counts, or counts for something else,
    /// or no session of this machine does.
    pub async fn key_ended(&self, id: ApiKeyId) {
        let mut changes = self.upstream.feed().subscribe();
        let mut ask_after = ASK_EVERY;
        loop {
            let missed_changes = async {
                loop {
                    match changes.recv().await {
                        Ok(Change::ApiKeyRevoked(ended) | Change::ApiKeyChanged(ended))
                            if ended == id =>
                        {
                            return false;
                        }
                        // the session that it began with has ended
                        Ok(Change::Machine { .. }) => return false,
                        Ok(Change::Everything) | Err(RecvError::Lagged(_)) => return true,
                        Ok(_) => {}
                        Err(RecvError::Closed) => return false,
                    }
                }
            };
            if let Ok(false) = tokio::time::timeout(ask_after, missed_changes).await {
                return;
            }
            ask_after = match self.upstream.sessions().key_stands(id).await {
                Ok(()) => ASK_EVERY,
                Err(problem) if problem.reason.code() == Code::Unauthenticated => return,
                Err(problem)
                    if matches!(
                        problem.reason,
                        Reason::MachineBanned | Reason::MachineEvicted
                    ) =>
                {
                    return;
                }
                Err(_) => ASK_AGAIN,
            };
        }
    }
}
