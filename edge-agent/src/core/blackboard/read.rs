//! `blackboard_read`.

use authguardian_proto::{
    blackboard::v1::{GetRequest, GetResponse},
    common::v1::Position,
    reason::{Problem, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    AFTER_REVISION, AGENT_ID, BOARD, CONSISTENCY, EntryResult, KEY, acting, board, is_strong, told,
};
use crate::core::{
    Caller, Core,
    form::{Field, Form, Kind},
};

pub(in crate::core) const FIELDS: &[Field] = &[
    BOARD,
    KEY,
    CONSISTENCY,
    AFTER_REVISION,
    Field::optional(
        "siblings",
        Kind::Flag,
        "Whether, of an eventual board, all values are told that have not seen each other; default false: only how \
         many",
    ),
    AGENT_ID,
];

/// A key of a board, and the board when it was read.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BlackboardReadResult {
    /// The board.
    pub board: String,
    /// What is in the key.
    #[serde(flatten)]
    pub entry: EntryResult,
    /// The epoch of the revisions; those of another are not comparable. Each replica of an eventual board has its own.
    pub epoch: u64,
    /// The newest revision when it was read.
    pub board_revision: u64,
    /// How many database nodes have what was read, at least; 0: it was read in this machine's replica.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn blackboard_read(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BlackboardReadResult, Problem> {
        let request = GetRequest {
            board: board(form),
            key: form.message_text("key"),
            strong: is_strong(form),
            after: form.position("after_revision")?,
            agent_id: acting(caller, form)?,
            ..GetRequest::default()
        };
        self.read_key(caller, request, form.flag("siblings")).await
    }

    /// A key as a resource.
    pub(in crate::core) async fn board_entry(
        &self,
        caller: &Caller,
        board: &str,
        key: &str,
    ) -> Result<BlackboardReadResult, Problem> {
        let request = GetRequest {
            board: board.to_owned(),
            key: key.to_owned(),
            ..GetRequest::default()
        };
        self.read_key(caller, request, false).await
    }

    async fn read_key(
        &self,
        caller: &Caller,
        request: GetRequest,
        all: bool,
    ) -> Result<BlackboardReadResult, Problem> {
        if let Some(answer) = self.read_eventual(caller, &request, all) {
            return answer;
        }
        let (board, key) = (request.board.clone(), request.key.clone());
        let answer = self.read_ordered(caller, request).await?;
        BlackboardReadResult::read(board, &key, answer)
    }
}

/// Nothing is in a key, as of a position.
fn absent(key: &str, position: Position) -> Problem {
    let Position { epoch, revision } = position;
    let detail = format!("there is no key `{key}`, as of {epoch}.{revision}");
    Problem::new(Reason::KeyNotFound, detail).at("key")
}

impl BlackboardReadResult {
    fn read(board: String, key: &str, answer: GetResponse) -> Result<Self, Problem> {
        let position = told(answer.position)?;
        let entry = answer.entry.ok_or_else(|| absent(key, position))?;
        Ok(Self {
            board,
            entry: EntryResult::read(entry)?,
            epoch: position.epoch,
            board_revision: position.revision,
            copies: answer.copies,
        })
    }
}
