//! What clients asked for and what they were told, in the order of time.

use std::time::Duration;

/// One act under one request id, with everything that came back.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) request_id: String,
    pub(super) act: Act,
    pub(super) attempts: Vec<Attempt>,
}

/// What a client wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// A new grant.
    Request,
    /// The end of the grant of this token.
    Revoke { grant_id: String, token: String },
}

/// One try of a call; times count from the beginning of the load.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) start: Duration,
    pub(super) end: Duration,
    pub(super) answer: Answer,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A grant; no token once it has ended.
    Granted {
        grant_id: String,
        token: Option<String>,
    },
    /// The grant was ended at this revision.
    Revoked { grant_id: String, revision: u64 },
    /// A definite no, with its reason.
    Refused(String),
    /// It may or may not have happened, or not yet: to be repeated.
    Unknown(String),
}

impl Answer {
    /// Whether it says that something was done.
    pub(super) fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Revoked { .. })
    }

    /// Whether another answer to the same request id says the same: a token
    /// may be missing in the later one, since its grant may have ended.
    fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Granted { grant_id, token },
                Self::Granted {
                    grant_id: other_id,
                    token: other_token,
                },
            ) => {
                let same_token = token.is_none() || other_token.is_none() || token == other_token;
                grant_id == other_id && same_token
            }
            _ => self == other,
        }
    }
}

impl Call {
    pub(super) fn new(request_id: String, act: Act) -> Self {
        Self {
            request_id,
            act,
            attempts: Vec::new(),
        }
    }

    /// The first definite answer; `None` while all are unknown.
    pub(super) fn outcome(&self) -> Option<&Answer> {
        self.definite().next()
    }

    /// The first answer that a later one contradicts, and that one.
    pub(super) fn contradiction(&self) -> Option<(&Answer, &Answer)> {
        let first = self.outcome()?;
        let other = self.definite().find(|answer| !first.agrees_with(answer))?;
        Some((first, other))
    }

    /// Whether the outcome was learnt by repeating.
    pub(super) fn resolved_by_retry(&self) -> bool {
        self.outcome().is_some() && matches!(self.attempts[0].answer, Answer::Unknown(_))
    }

    fn definite(&self) -> impl Iterator<Item = &Answer> {
        self.attempts
            .iter()
            .map(|attempt| &attempt.answer)
            .filter(|answer| !matches!(answer, Answer::Unknown(_)))
    }
}
