//! `blackboard_write`.

use std::collections::BTreeMap;

use authguardian_proto::{
    blackboard::v1::PutRequest, board::MAX_TTL_SECONDS, crdt::VectorClock, reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, BOARD, IF_LOCK, IF_REVISION, KEY, REQUEST_ID, acting, board, told};
use crate::core::{
    Caller, Core,
    decision::rfc3339,
    form::{Field, Form, Kind},
    name_request_id, request_id,
};

pub(in crate::core) const FIELDS: &[Field] = &[
    BOARD,
    KEY,
    Field::required(
        "value",
        Kind::Json,
        "Any JSON, null as well, of up to 262,144 bytes as text; it comes back with the same digits, characters and \
         order",
    ),
    IF_REVISION,
    Field::optional(
        "ttl_seconds",
        Kind::Whole(1, MAX_TTL_SECONDS),
        "Seconds until it ends by itself; default as the board says",
    ),
    IF_LOCK,
    AGENT_ID,
    REQUEST_ID,
];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlackboardWriteResult {
    /// The board.
    pub board: String,
    /// The key.
    pub key: String,
    /// The revision that it was written with.
    pub revision: u64,
    /// The key's revision before; 0: it was not there.
    pub previous_revision: u64,
    /// The epoch of the revisions; each replica of an eventual board has its own.
    pub epoch: u64,
    /// When it ends by itself, RFC 3339 in UTC; missing: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Where the board is eventual: which write it is, as an actor and its how-manyth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where the board is eventual: by actor (a machine and its incarnation), how many of its writes this key has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, u64>>")]
    pub vector_clock: Option<VectorClock>,
    /// How many database nodes have it, at least; 0: it is on this machine's disk, and on its way.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn blackboard_write(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BlackboardWriteResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let (board, key) = (board(form), form.message_text("key"));
        let request = PutRequest {
            board: board.clone(),
            key: key.clone(),
            value: form.json("value")?,
            if_revision: form.revision("if_revision")?,
            ttl_seconds: form.number("ttl_seconds").map(u64::from),
            request_id: request_id.clone(),
            if_lock: form.lock_held("if_lock")?,
            agent_id: acting(caller, form)?,
        };
        if let Some(answer) = self
            .write_eventual(caller, &request, form.text("request_id"))
            .await
        {
            return answer.map_err(|problem| name_request_id(problem, &request_id));
        }
        let answer = self
            .upstream
            .board_put(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        self.mark(caller, &board, answer.position);
        let position = told(answer.position)?;
        Ok(BlackboardWriteResult {
            version: None,
            vector_clock: None,
            board,
            key,
            revision: position.revision,
            previous_revision: answer.previous_revision,
            epoch: position.epoch,
            expires_at: rfc3339(answer.expires_at),
            copies: answer.copies,
        })
    }
}
