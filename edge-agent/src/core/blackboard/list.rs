//! `blackboard_list`.

use authguardian_proto::{blackboard::v1::ListRequest, reason::Problem};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    AFTER_REVISION, AGENT_ID, BOARD, CONSISTENCY, EntryResult, acting, board, is_strong, told,
};
use crate::core::{
    Caller, Core,
    decision::given,
    form::{Field, Form, Kind},
};

/// A resource shows so many keys at most.
const OF_RESOURCE: u32 = 1000;

pub(in crate::core) const FIELDS: &[Field] = &[
    BOARD,
    Field::optional(
        "prefix",
        Kind::Prefix,
        "Only keys that begin so; default all",
    ),
    Field::optional(
        "limit",
        Kind::Whole(1, 1000),
        "At most so many, fewer where their values are large; default 100",
    ),
    Field::optional("cursor", Kind::Key, "`next_cursor` of the page before"),
    Field::optional(
        "keys_only",
        Kind::Flag,
        "Whether values are left out; default false",
    ),
    CONSISTENCY,
    AFTER_REVISION,
    AGENT_ID,
];

/// Keys of a board, as they were at one revision.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BlackboardListResult {
    /// The board.
    pub board: String,
    /// In byte order of their keys.
    pub entries: Vec<EntryResult>,
    /// Where the next page begins; missing: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// The newest revision when it was read; a watch from here misses nothing.
    pub revision: u64,
    /// The epoch of the revisions; each replica of an eventual board has its own.
    pub epoch: u64,
    /// How many database nodes have what was read, at least; 0: it was read in this machine's replica.
    pub copies: u32,
}

impl Core {
    pub(in crate::core) async fn blackboard_list(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BlackboardListResult, Problem> {
        let request = ListRequest {
            board: board(form),
            prefix: form.message_text("prefix"),
            limit: form.message_number("limit"),
            page_token: form.message_text("cursor"),
            strong: is_strong(form),
            keys_only: form.flag("keys_only"),
            after: form.position("after_revision")?,
            agent_id: acting(caller, form)?,
        };
        self.list_keys(caller, request).await
    }

    /// A whole board as a resource: its keys, without their values.
    pub(in crate::core) async fn board_keys(
        &self,
        caller: &Caller,
        board: &str,
    ) -> Result<BlackboardListResult, Problem> {
        let request = ListRequest {
            board: board.to_owned(),
            limit: OF_RESOURCE,
            keys_only: true,
            ..ListRequest::default()
        };
        self.list_keys(caller, request).await
    }

    async fn list_keys(
        &self,
        caller: &Caller,
        request: ListRequest,
    ) -> Result<BlackboardListResult, Problem> {
        if let Some(answer) = self.list_eventual(caller, &request) {
            return answer;
        }
        let board = request.board.clone();
        let answer = self.read_ordered(caller, request).await?;
        let position = told(answer.position)?;
        let entries = answer.entries.into_iter().map(EntryResult::read);
        Ok(BlackboardListResult {
            board,
            entries: entries.collect::<Result<_, _>>()?,
            next_cursor: given(answer.next_page_token),
            revision: position.revision,
            epoch: position.epoch,
            copies: answer.copies,
        })
    }
}
