//! `lock_acquire`, `lock_renew` and `lock_release`.

use authguardian_proto::{
    blackboard::v1::{LockRequest, lock_request::Act},
    board::MAX_LOCK_SECONDS,
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, DEFAULT_BOARD_OF_LOCKS, REQUEST_ID, acting, entry::writer, told};
use crate::core::{
    Caller, Core,
    decision::{given, rfc3339},
    form::{Field, Form, Kind},
    name_request_id, request_id,
};

/// Seconds that a lock is held for, where nothing is said.
const DEFAULT_TTL: u32 = 60;

const BOARD: Field = Field::optional(
    "board",
    Kind::Board,
    "Which board; only strong ones have locks; default `strong`",
);

const KEY: Field = Field::required(
    "key",
    Kind::Key,
    "Which key, that holds no value: 1 to 512 bytes of any text without NUL",
);

const TTL: Field = Field::optional(
    "ttl_seconds",
    Kind::Whole(1, MAX_LOCK_SECONDS),
    "Seconds from now until it ends by itself, unless it is renewed; default 60",
);

const FENCING_REVISION: Field = Field::optional(
    "fencing_revision",
    Kind::Revision,
    "Which holding of it, as `lock_acquire` told it; default whatever the agent holds",
);

pub(in crate::core) const ACQUIRE: &[Field] = &[BOARD, KEY, TTL, AGENT_ID, REQUEST_ID];
pub(in crate::core) const RENEW: &[Field] =
    &[BOARD, KEY, TTL, FENCING_REVISION, AGENT_ID, REQUEST_ID];
pub(in crate::core) const RELEASE: &[Field] = &[BOARD, KEY, FENCING_REVISION, AGENT_ID, REQUEST_ID];

/// A lock, and whether it is the agent's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockResult {
    /// The board.
    pub board: String,
    /// The key.
    pub key: String,
    /// Whether the agent holds it now.
    pub held: bool,
    /// Of the lock that is, or was, held: it grows with each holder. Name it as `if_lock`, so that a write that comes
    /// too late is refused. 0: there is none.
    pub fencing_revision: u64,
    /// When it ends by itself, RFC 3339 in UTC; missing: it is not held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Who holds it: the id of an agent; missing: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The board's revision that did it, or its newest: a watch from here misses nothing.
    pub revision: u64,
    /// The board's epoch.
    pub epoch: u64,
    /// How many database nodes have it, at least.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn lock(
        &self,
        caller: &Caller,
        act: Act,
        form: &Form,
    ) -> Result<LockResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let board = form.text("board").unwrap_or(DEFAULT_BOARD_OF_LOCKS);
        let (board, key) = (board.to_owned(), form.message_text("key"));
        let ttl_seconds = match act {
            Act::Release | Act::Unspecified => 0,
            Act::Acquire | Act::Renew => form.number("ttl_seconds").unwrap_or(DEFAULT_TTL).into(),
        };
        let request = LockRequest {
            board: board.clone(),
            key: key.clone(),
            act: act.into(),
            ttl_seconds,
            fencing_revision: form.revision("fencing_revision")?,
            request_id: request_id.clone(),
            agent_id: acting(caller, form)?,
        };
        let answer = self
            .upstream
            .board_lock(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        let position = told(answer.position)?;
        Ok(LockResult {
            board,
            key,
            held: answer.held,
            fencing_revision: answer.fencing_revision,
            expires_at: rfc3339(answer.expires_at),
            holder: given(answer.holder).map(writer),
            revision: position.revision,
            epoch: position.epoch,
            copies: answer.copies,
        })
    }
}
