//! `blackboard transaction`.

use authguardian_proto::{
    blackboard::v1::{
        Compare, Erase, Fetch, Operation, OperationResult, TransactRequest, Write,
        blackboard_admin_service_client::BlackboardAdminServiceClient, compare::Condition,
        operation::Action,
    },
    reason::Problem,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{OnBoard, entry::EntryView, stdin};
use crate::cli::{
    client::{Authenticated, RequestIdArgs, change},
    failure::Failure,
    output::Format,
};

#[derive(Debug, Args)]
pub(super) struct TransactionArgs {
    #[command(flatten)]
    on: OnBoard,
    #[command(flatten)]
    request_id: RequestIdArgs,
}

/// What stdin says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    compare: Vec<AskedCompare>,
    #[serde(default)]
    then: Vec<AskedOperation>,
    #[serde(default, rename = "else")]
    otherwise: Vec<AskedOperation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedCompare {
    key: String,
    revision: Option<u64>,
    fencing_revision: Option<u64>,
    value: Option<Box<RawValue>>,
    exists: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedOperation {
    op: Op,
    key: String,
    value: Option<Box<RawValue>>,
    ttl_seconds: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Put,
    Delete,
    Get,
}

impl TransactionArgs {
    pub(super) async fn run(
        self,
        mut client: BlackboardAdminServiceClient<Authenticated>,
        output: Format,
    ) -> Result<(), Failure> {
        let asked = read(&stdin()?)?;
        let request_id = self.request_id.resolve()?;
        let request = TransactRequest {
            board: self.on.board.to_string(),
            compare: numbered("compare", asked.compare, compare)?,
            then: numbered("then", asked.then, operation)?,
            r#else: numbered("else", asked.otherwise, operation)?,
            request_id: request_id.clone(),
            ..TransactRequest::default()
        };
        let done = change(&request_id, async || client.transact(request.clone()).await).await?;
        let position = done.position.unwrap_or_default();
        let results = done.results.into_iter();
        output.one(&DoneView {
            succeeded: done.succeeded,
            epoch: position.epoch,
            revision: position.revision,
            results: results
                .map(|result| ResultView::of(result, output))
                .collect::<Result<_, _>>()?,
            copies: done.copies,
        })
    }
}

fn read(text: &str) -> Result<Asked, Problem> {
    serde_json::from_str(text).map_err(|error| {
        Problem::invalid(
            "transaction",
            format!("expected JSON as `--help` shows it: {error}"),
        )
    })
}

fn numbered<T, U>(
    list: &str,
    items: Vec<T>,
    one: impl Fn(&str, T) -> Result<U, Problem>,
) -> Result<Vec<U>, Problem> {
    let items = items.into_iter().enumerate();
    items
        .map(|(at, item)| one(&format!("{list}[{at}]"), item))
        .collect()
}

fn compare(field: &str, asked: AskedCompare) -> Result<Compare, Problem> {
    let conditions = [
        asked.revision.map(Condition::Revision),
        asked.fencing_revision.map(Condition::FencingRevision),
        asked
            .value
            .map(|value| Condition::Value(value.get().to_owned())),
        asked.exists.map(Condition::Exists),
    ];
    let mut conditions = conditions.into_iter().flatten();
    let (Some(condition), None) = (conditions.next(), conditions.next()) else {
        let detail = "expected one of revision, fencing_revision, value and exists";
        return Err(Problem::invalid(field, detail));
    };
    Ok(Compare {
        key: asked.key,
        condition: Some(condition),
    })
}

fn operation(field: &str, asked: AskedOperation) -> Result<Operation, Problem> {
    if asked.op != Op::Put && (asked.value.is_some() || asked.ttl_seconds.is_some()) {
        let detail = "expected value and ttl_seconds with `put` only";
        return Err(Problem::invalid(field, detail));
    }
    let action = match asked.op {
        Op::Put => {
            let value = asked
                .value
                .ok_or_else(|| Problem::invalid(format!("{field}.value"), "expected JSON"))?;
            Action::Put(Write {
                value: value.get().to_owned(),
                ttl_seconds: asked.ttl_seconds,
            })
        }
        Op::Delete => Action::Delete(Erase {}),
        Op::Get => Action::Get(Fetch {}),
    };
    Ok(Operation {
        key: asked.key,
        action: Some(action),
    })
}

#[derive(Debug, Serialize)]
struct DoneView {
    succeeded: bool,
    epoch: u64,
    revision: u64,
    results: Vec<ResultView>,
    copies: u32,
}

#[derive(Debug, Serialize)]
struct ResultView {
    key: String,
    previous_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<EntryView>,
}

impl ResultView {
    fn of(result: OperationResult, output: Format) -> Result<Self, Failure> {
        Ok(Self {
            key: result.key,
            previous_revision: result.previous_revision,
            entry: result
                .entry
                .map(|entry| EntryView::of(entry, output))
                .transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_to_the_digit_and_faults_name_their_place() {
        let asked = read(
            r#"{"compare": [{"key": "a", "value": 1.10}], "then": [{"op": "put", "key": "a", "value": 1e400}]}"#,
        )
        .unwrap();
        let compare = numbered("compare", asked.compare, compare).unwrap();
        assert_eq!(compare[0].condition, Some(Condition::Value("1.10".into())));
        let then = numbered("then", asked.then, operation).unwrap();
        assert!(matches!(&then[0].action, Some(Action::Put(write)) if write.value == "1e400"));

        let two = read(r#"{"compare": [{"key": "a", "revision": 1, "exists": true}]}"#).unwrap();
        let refused = numbered("compare", two.compare, super::compare).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("compare[0]"));
        let bare = read(r#"{"else": [{"op": "get", "key": "a"}, {"op": "put", "key": "a"}]}"#);
        let refused = numbered("else", bare.unwrap().otherwise, operation).unwrap_err();
        assert_eq!(refused.field.as_deref(), Some("else[1].value"));
        assert!(read(r#"{"them": []}"#).is_err());
    }
}
