//! `blackboard_transaction`.

use authguardian_proto::{
    blackboard::v1::{self as pb, TransactRequest, operation::Action},
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, EntryResult, REQUEST_ID, acting, told};
use crate::core::{
    Caller, Core,
    form::{Field, Form, Kind},
    name_request_id, request_id,
};

pub(in crate::core) const FIELDS: &[Field] = &[
    Field::required(
        "board",
        Kind::Board,
        "Which board; only strong ones take transactions",
    ),
    Field::optional(
        "compare",
        Kind::Compares,
        "What has to hold, each `key` with one of `revision` (0: not there), `fencing_revision` (of a lock that the agent \
         holds), `value` (equal as JSON) or `exists`; up to 128, default none",
    ),
    Field::optional(
        "then",
        Kind::Operations,
        "Done, as one revision, where all of `compare` holds: `{op: \"put\", key, value, ttl_seconds?}`, \
         `{op: \"delete\", key}` or `{op: \"get\", key}`; up to 128, no key written twice, all keys and values together up to 1 MiB",
    ),
    Field::optional(
        "else",
        Kind::Operations,
        "Done where not all of it holds; as `then`",
    ),
    AGENT_ID,
    REQUEST_ID,
];

/// What came of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BlackboardTransactionResult {
    /// The board.
    pub board: String,
    /// Whether all of `compare` held: `then` was done, else `else`.
    pub succeeded: bool,
    /// The revision of all that was written, else the board's newest.
    pub revision: u64,
    /// The board's epoch.
    pub epoch: u64,
    /// One for each operation that was done, in order.
    pub results: Vec<OperationResult>,
    /// How many database nodes have it, at least.
    pub copies: u32,
}

/// What came of an operation.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OperationResult {
    /// With which key.
    pub key: String,
    /// Of `get`: what was in it before the transaction; missing: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<EntryResult>,
    /// Of `put` and `delete`: the key's revision before; 0: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<u64>,
}

impl Core {
    pub(in crate::core) async fn blackboard_transaction(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BlackboardTransactionResult, Problem> {
        let request_id = request_id(form, &self.ambient);
        let board = form.message_text("board");
        let (compare, then, otherwise) = form.transaction()?;
        let (if_held, if_not) = (reads(&then), reads(&otherwise));
        let request = TransactRequest {
            board: board.clone(),
            compare,
            then,
            r#else: otherwise,
            request_id: request_id.clone(),
            agent_id: acting(caller, form)?,
        };
        let answer = self
            .upstream
            .board_transact(caller.login(), request)
            .await
            .map_err(|problem| name_request_id(problem, &request_id))?;
        let position = told(answer.position)?;
        let is_read = if answer.succeeded { if_held } else { if_not };
        let results = answer.results.into_iter().zip(is_read);
        let results = results.map(|(result, is_read)| OperationResult::read(result, is_read));
        Ok(BlackboardTransactionResult {
            board,
            succeeded: answer.succeeded,
            revision: position.revision,
            epoch: position.epoch,
            results: results.collect::<Result<_, _>>()?,
            copies: answer.copies,
        })
    }
}

/// Which of the operations read.
fn reads(operations: &[pb::Operation]) -> Vec<bool> {
    let is_read = |operation: &pb::Operation| matches!(operation.action, Some(Action::Get(_)));
    operations.iter().map(is_read).collect()
}

impl OperationResult {
    fn read(result: pb::OperationResult, is_read: bool) -> Result<Self, Problem> {
        Ok(Self {
            key: result.key,
            entry: result.entry.map(EntryResult::read).transpose()?,
            previous_revision: (!is_read).then_some(result.previous_revision),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::told::Told;

    #[test]
    fn results_are_told_as_what_they_are_of() {
        let entry = pb::Entry {
            key: "a".into(),
            value: "1e400".into(),
            ..pb::Entry::default()
        };
        let of = |entry: Option<pb::Entry>, previous_revision, is_read| {
            let result = pb::OperationResult {
                key: "a".into(),
                entry,
                previous_revision,
            };
            Told::of(OperationResult::read(result, is_read).unwrap()).into_text()
        };
        let told = of(Some(entry), 0, true);
        assert!(
            told.starts_with(r#"{"key":"a","entry":{"key":"a","value":1e400,"#),
            "{told}"
        );
        assert_eq!(of(None, 0, true), r#"{"key":"a"}"#);
        assert_eq!(of(None, 0, false), r#"{"key":"a","previous_revision":0}"#);
    }
}
