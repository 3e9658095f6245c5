//! `blackboard_delete`.

use authguardian_proto::{blackboard::v1::DeleteRequest, reason::Problem};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, BOARD, IF_LOCK, IF_REVISION, KEY, REQUEST_ID, acting, board, told};
use crate::core::{
    Caller, Core,
    form::{Field, Form},
    name_request_id, request_id,
};

pub(in crate::core) const FIELDS: &[Field] =
    &[BOARD, KEY, IF_REVISION, IF_LOCK, AGENT_ID, REQUEST_ID];

/// What was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BlackboardDeleteResult {
    /// The board.
    pub board: String,
    /// The key.
    pub key: String,
    /// Whether there was something to delete.
    pub deleted: bool,
    /// The revision that deleted it, else the board's newest.
    pub revision: u64,
    /// The key's revision before; 0: it was not there.
    pub previous_revision: u64,
    /// The epoch of the revisions; each replica of an eventual board has its own.
    pub epoch: u64,
    /// How many database nodes have it, at least; 0: it is on this machine's disk, and on its way.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn blackboard_delete(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BlackboardDeleteResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let (board, key) = (board(form), form.message_text("key"));
        let request = DeleteRequest {
            board: board.clone(),
            key: key.clone(),
            if_revision: form.revision("if_revision")?,
            request_id: request_id.clone(),
            if_lock: form.lock_held("if_lock")?,
            agent_id: acting(caller, form)?,
        };
        if let Some(answer) = self
            .delete_eventual(caller, &request, form.text("request_id"))
            .await
        {
            return answer.map_err(|problem| name_request_id(problem, &request_id));
        }
        let answer = self
            .upstream
            .board_delete(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        self.mark(caller, &board, answer.position);
        let position = told(answer.position)?;
        Ok(BlackboardDeleteResult {
            board,
            key,
            deleted: answer.deleted,
            revision: position.revision,
            previous_revision: answer.previous_revision,
            epoch: position.epoch,
            copies: answer.copies,
        })
    }
}
