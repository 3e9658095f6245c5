//! `blackboard_read`.

use authguardian_proto::{
    blackboard::v1::{GetRequest, GetResponse},
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    AFTER_REVISION, AGENT_ID, BOARD, CONSISTENCY, EntryResult, KEY, acting, board,
    entry::tell_with, is_strong, told,
};
use crate::core::{
    Caller, Core,
    decision::not_understood,
    form::{Field, Form},
};

pub(in crate::core) const FIELDS: &[Field] = &[BOARD, KEY, CONSISTENCY, AFTER_REVISION, AGENT_ID];

/// A key of a board, and the board when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BlackboardReadResult {
    /// The board.
    pub board: String,
    /// What is in the key.
    #[serde(flatten)]
    pub entry: EntryResult,
    /// The board's epoch; revisions of another are not comparable.
    pub epoch: u64,
    /// The board's newest revision when it was read.
    pub board_revision: u64,
    /// How many database nodes have what was read, at least.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn blackboard_read(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<Value, Problem> {
        let request = GetRequest {
            board: board(form),
            key: form.message_text("key"),
            strong: is_strong(form),
            after: form.position("after_revision")?,
            agent_id: acting(caller, form)?,
        };
        self.read_key(caller, request).await
    }

    /// A key as a resource.
    pub(in crate::core) async fn board_entry(
        &self,
        caller: &Caller,
        board: &str,
        key: &str,
    ) -> Result<Value, Problem> {
        let request = GetRequest {
            board: board.to_owned(),
            key: key.to_owned(),
            ..GetRequest::default()
        };
        self.read_key(caller, request).await
    }

    async fn read_key(&self, caller: &Caller, request: GetRequest) -> Result<Value, Problem> {
        let board = request.board.clone();
        let answer = self.upstream.board_get(caller.login(), request).await?;
        BlackboardReadResult::read(board, answer).map(BlackboardReadResult::tell)
    }
}

impl BlackboardReadResult {
    fn read(board: String, answer: GetResponse) -> Result<Self, Problem> {
        let position = told(answer.position)?;
        Ok(Self {
            board,
            entry: EntryResult::read(answer.entry.ok_or_else(not_understood)?)?,
            epoch: position.epoch,
            board_revision: position.revision,
            copies: answer.copies,
        })
    }

    fn tell(mut self) -> Value {
        tell_with(self.entry.take_value(), self)
    }
}
