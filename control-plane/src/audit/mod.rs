//! Who did what, when, and what came of it: appended in the transaction of the
//! act itself. No entry holds a secret; a token appears as its grant's id.
//!
//! The log proves itself. What is committed is sealed: it gets its place and
//! its leaf in a Merkle tree (RFC 6962), whose head is signed as a checkpoint
//! (C2SP tlog-checkpoint) once it has reached the write quorum.

pub mod export;
pub mod journal;
pub mod log;
pub mod proof;
mod refusals;
pub mod retention;
pub mod seal;
pub mod search;
mod store;
mod tail;
pub mod verify;
pub mod witness;

use std::{borrow::Cow, net::IpAddr};

use authguardian_proto::{
    ids::{AdminTokenId, AgentId, ApiKeyId, MachineId, RequestId},
    reason::Reason,
    zone::Zone,
};
pub use refusals::Refusals;
use serde::Serialize;
use sqlx::PgConnection;
pub use tail::Tail;
use time::OffsetDateTime;

use crate::{
    clock::Ambient,
    db::request::RequestKey,
    error::{Error, Result},
};

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// An agent, or the API key that may speak for it where none is named.
    Agent(Option<AgentId>, ApiKeyId),
    /// An admin.
    Admin(AdminTokenId),
    /// A machine on its own behalf.
    Machine(MachineId),
    /// A user of the control plane's own machine, by uid.
    Local(u32),
    /// The control plane itself.
    System,
    /// Nobody known.
    Anonymous,
}

/// From where and for which request somebody acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Context {
    /// Who.
    pub actor: Actor,
    /// The machine that the call came through.
    pub machine_id: Option<MachineId>,
    /// The peer of the control plane; `None` when local.
    pub peer: Option<IpAddr>,
    /// Where the agent reached its edge from.
    pub zone: Option<Zone>,
    /// The caller's id for the request.
    pub request_id: Option<RequestId>,
    /// W3C trace id, 32 hex digits.
    pub trace_id: Option<String>,
}

impl Context {
    /// Whose request ids these are: `apk_…`, `adm_…`, `mch_…`, `uid:…`, `system`
    /// or `anonymous`.
    pub fn principal(&self) -> String {
        match &self.actor {
            Actor::Agent(_, key) => key.to_string(),
            Actor::Admin(token) => token.to_string(),
            Actor::Machine(machine) => machine.to_string(),
            Actor::Local(uid) => format!("uid:{uid}"),
            Actor::System => "system".to_owned(),
            Actor::Anonymous => "anonymous".to_owned(),
        }
    }

    /// The key under which the outcome of `request` is kept. A caller that gave
    /// no request id gets a fresh one, which no repeat can match.
    ///
    /// # Errors
    /// When `request` cannot be written as JSON.
    pub fn request_key(
        &self,
        ambient: &Ambient,
        method: &'static str,
        request: &impl Serialize,
    ) -> Result<RequestKey> {
        let request_id = match &self.request_id {
            Some(given) => given.clone(),
            None => ambient
                .uuid()
                .to_string()
                .parse()
                .map_err(Error::internal)?,
        };
        RequestKey::new(self.principal(), method, request_id, request)
    }

    /// The control plane acting by itself.
    pub fn system() -> Self {
        Self {
            actor: Actor::System,
            machine_id: None,
            peer: None,
            zone: None,
            request_id: None,
            trace_id: None,
        }
    }
}

/// What came of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// Judged, and denied.
    Denied,
    /// Not even tried: no right to.
    Refused,
    /// Tried, and failed.
    Failed,
}

impl Outcome {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Reads the stable name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ok, Self::Denied, Self::Refused, Self::Failed]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }
}

/// One act, as it is appended.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Who, from where.
    pub context: Context,
    /// What: `<noun>.<verb>`.
    pub action: Cow<'static, str>,
    /// On what, in its text form.
    pub subject: String,
    /// Whose affair it is: the agent that sees it in `grants://audit`.
    pub agent_id: Option<AgentId>,
    /// What came of it.
    pub outcome: Outcome,
    /// Why not.
    pub reason: Option<Reason>,
    /// How many equal acts it stands for.
    pub count: i64,
}

impl Entry {
    /// An act that was done.
    pub fn ok(
        context: Context,
        action: impl Into<Cow<'static, str>>,
        subject: impl Into<String>,
    ) -> Self {
        Self {
            context,
            action: action.into(),
            subject: subject.into(),
            agent_id: None,
            outcome: Outcome::Ok,
            reason: None,
            count: 1,
        }
    }

    /// Whose affair it is: who it is about, else the agent that acts.
    pub fn agent(&self) -> Option<&AgentId> {
        let acting = match &self.context.actor {
            Actor::Agent(agent, _) => agent.as_ref(),
            _ => None,
        };
        self.agent_id.as_ref().or(acting)
    }

    /// Names the agent whose affair it is.
    #[must_use]
    pub fn about(mut self, agent_id: AgentId) -> Self {
        self.agent_id = Some(agent_id);
        self
    }

    /// An act that did not succeed.
    #[must_use]
    pub fn not_ok(mut self, outcome: Outcome, reason: Option<Reason>) -> Self {
        self.outcome = outcome;
        self.reason = reason;
        self
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Number of the log.
    pub log: i64,
    /// In which log.
    pub origin: String,
    /// From 0.
    pub index: i64,
}

/// One entry, as it is read.
#[derive(Debug, Clone)]
#[expect(
    missing_docs,
    reason = "the fields are those of Entry in audit/v1/audit.proto"
)]
pub struct Record {
    /// `None` until it is sealed.
    pub place: Option<Place>,
    pub sequence: i64,
    pub occurred_at: OffsetDateTime,
    pub caller: String,
    pub key_id: Option<String>,
    pub machine_id: Option<MachineId>,
    pub peer_address: Option<String>,
    pub zone: Option<String>,
    pub action: String,
    pub subject: String,
    pub agent_id: Option<String>,
    pub outcome: String,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub trace_id: Option<String>,
    pub count: i64,
}

impl Record {
    /// Where it stands in its log; `None` until it is sealed.
    pub fn index(&self) -> Option<i64> {
        self.place.as_ref().map(|place| place.index)
    }
}

/// Appends entries in the transaction of the acts that they tell of.
///
/// # Errors
/// When the database refuses.
pub async fn append(
    connection: &mut PgConnection,
    now: OffsetDateTime,
    entries: &[Entry],
) -> Result<()> {
    store::append(connection, now, entries).await
}

/// How many entries are committed and not sealed yet.
///
/// # Errors
/// When the database refuses.
pub async fn pending_count(connection: &mut PgConnection) -> Result<u64> {
    Ok(store::pending_count(connection).await?.unsigned_abs())
}

/// The newest signed head of a log; `None` before the first.
///
/// # Errors
/// When the database refuses.
pub async fn newest_checkpoint(
    connection: &mut PgConnection,
    log: &log::Log,
) -> Result<Option<log::Signed>> {
    store::checkpoint::newest(connection, log.number).await
}

/// What machines say that they have kept, by machine.
///
/// # Errors
/// When the database refuses.
pub async fn witnesses(connection: &mut PgConnection) -> Result<Vec<log::Witness>> {
    store::witness::all(connection).await
}
