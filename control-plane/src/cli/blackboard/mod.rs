//! `blackboard`: what is on boards.

mod conflicts;
mod entry;
mod export;
mod import;
mod transaction;
mod watch;

use std::io::Read;

use authguardian_proto::{
    blackboard::v1::{
        DeleteRequest, GetRequest, ListRequest, PutRequest,
        blackboard_admin_service_client::BlackboardAdminServiceClient,
    },
    board::Key,
    ids::BoardName,
    reason::Problem,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::{
    conflicts::ConflictsArgs, entry::EntryView, export::ExportArgs, import::ImportArgs,
    transaction::TransactionArgs, watch::WatchArgs,
};
use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, write_stdout},
    page::PageArgs,
    value::rfc3339,
};

const EXAMPLES: &str = "\
Examples:
  control-plane blackboard put plans/q4 '{\"owner\": \"data_analyst\"}' --board strong
  control-plane blackboard put counter 2 --board strong --if-revision 17
  control-plane blackboard put report - --ttl-seconds 600 < report.json
  control-plane blackboard get plans/q4 --board strong
  control-plane blackboard get counter --board strong --value-only
  control-plane blackboard list --board strong --prefix plans/ -o json
  control-plane blackboard delete plans/q4 --board strong
  control-plane blackboard watch --board strong --prefix plans/ --previous
  control-plane blackboard watch --board strong --after 1.1042 -o json
  control-plane blackboard transaction --board strong < transfer.json
  control-plane blackboard conflicts --board eventual
  control-plane blackboard export --board strong --prefix plans/ > plans.jsonl
  control-plane blackboard import --board archive < plans.jsonl

Values are JSON: quote a text as '\"text\"'. `-` reads the value from stdin.

A transaction is JSON on stdin: {\"compare\": [{\"key\": \"a\", \"revision\": 3}], \"then\": [{\"op\": \"put\", \"key\": \"a\", \"value\": 1}, {\"op\": \"delete\", \"key\": \"b\"}], \"else\": [{\"op\": \"get\", \"key\": \"a\"}]}. A comparison names a key and one of `revision` (0: not there), `fencing_revision`, `value` and `exists`.";

/// Most bytes of one answer: a revision may have changed 128 values, each of which
/// comes with what was there before.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BlackboardArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read a key
    Get(GetArgs),
    /// Write a key
    Put(PutArgs),
    /// Delete a key
    Delete(DeleteArgs),
    /// List keys by prefix, in byte order
    List(ListArgs),
    /// List keys of an eventual board with several values that have not seen each other
    Conflicts(ConflictsArgs),
    /// Write a board, or a part of it, to stdout as JSON lines
    Export(ExportArgs),
    /// Write what `export` has written, read from stdin, to a board
    Import(ImportArgs),
    /// Print what becomes of keys until interrupted
    Watch(WatchArgs),
    /// Compare, and do all of one list or all of another
    Transaction(TransactionArgs),
}

/// Which board.
#[derive(Debug, Args)]
struct OnBoard {
    /// Which board
    #[arg(long, default_value = "eventual", value_name = "NAME")]
    board: BoardName,
}

#[derive(Debug, Args)]
struct GetArgs {
    /// Which key
    key: Key,
    #[command(flatten)]
    on: OnBoard,
    /// A linearizable answer, whatever the board promises
    #[arg(long)]
    strong: bool,
    /// Print nothing but the value
    #[arg(long)]
    value_only: bool,
}

#[derive(Debug, Args)]
struct PutArgs {
    /// Which key
    key: Key,
    /// JSON, or `-` for stdin
    value: String,
    #[command(flatten)]
    on: OnBoard,
    /// Only where the key has this revision; 0: only where it is not there
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    /// Seconds until it ends by itself
    #[arg(long, value_name = "N")]
    ttl_seconds: Option<u64>,
    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct DeleteArgs {
    /// Which key
    key: Key,
    #[command(flatten)]
    on: OnBoard,
    /// Only where the key has this revision
    #[arg(long, value_name = "N")]
    if_revision: Option<u64>,
    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    on: OnBoard,
    /// What keys begin with
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Leave values out
    #[arg(long)]
    keys_only: bool,
    /// A linearizable answer, whatever the board promises
    #[arg(long)]
    strong: bool,
    #[command(flatten)]
    page: PageArgs,
}

impl BlackboardArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = BlackboardAdminServiceClient::new(self.client.connect().await?)
            .max_decoding_message_size(MAX_ANSWER);
        let output = self.client.output;
        match self.verb {
            Verb::Get(args) => get(client, args, output).await,
            Verb::Put(args) => put(client, args, output).await,
            Verb::Delete(args) => delete(client, args, output).await,
            Verb::List(args) => list(client, args, output).await,
            Verb::Conflicts(args) => args.run(client, output).await,
            Verb::Export(args) => args.run(client).await,
            Verb::Import(args) => args.run(client, output).await,
            Verb::Watch(args) => args.run(client, output).await,
            Verb::Transaction(args) => args.run(client, output).await,
        }
    }
}

async fn get(
    mut client: BlackboardAdminServiceClient<Authenticated>,
    args: GetArgs,
    output: Format,
) -> Result<(), Failure> {
    let request = GetRequest {
        board: args.on.board.to_string(),
        key: args.key.to_string(),
        strong: args.strong,
        ..GetRequest::default()
    };
    let found = read(async || client.get(request).await).await?;
    let entry = found.entry.unwrap_or_default();
    if args.value_only {
        return write_stdout(&format!("{}\n", entry.value));
    }
    output.one(&EntryView::of(entry, output)?)
}

/// What came of a write.
#[derive(Debug, Serialize)]
struct WrittenView {
    board: String,
    key: String,
    epoch: u64,
    revision: u64,
    previous_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    copies: u32,
}

async fn put(
    mut client: BlackboardAdminServiceClient<Authenticated>,
    args: PutArgs,
    output: Format,
) -> Result<(), Failure> {
    let value = match args.value.as_str() {
        "-" => stdin()?,
        _ => args.value,
    };
    if serde_json::from_str::<serde_json::Value>(&value).is_err() {
        let detail = "expected JSON; a text is quoted, as '\"text\"'";
        return Err(Problem::invalid("value", detail).into());
    }
    let request_id = args.request_id.resolve()?;
    let request = PutRequest {
        board: args.on.board.to_string(),
        key: args.key.to_string(),
        value,
        if_revision: args.if_revision,
        ttl_seconds: args.ttl_seconds,
        request_id: request_id.clone(),
        ..PutRequest::default()
    };
    let written = change(&request_id, async || client.put(request.clone()).await).await?;
    let position = written.position.unwrap_or_default();
    output.one(&WrittenView {
        board: request.board,
        key: request.key,
        epoch: position.epoch,
        revision: position.revision,
        previous_revision: written.previous_revision,
        expires_at: rfc3339(written.expires_at.as_ref()),
        deleted: None,
        copies: written.copies,
    })
}

async fn delete(
    mut client: BlackboardAdminServiceClient<Authenticated>,
    args: DeleteArgs,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = DeleteRequest {
        board: args.on.board.to_string(),
        key: args.key.to_string(),
        if_revision: args.if_revision,
        request_id: request_id.clone(),
        ..DeleteRequest::default()
    };
    let deleted = change(&request_id, async || client.delete(request.clone()).await).await?;
    let position = deleted.position.unwrap_or_default();
    output.one(&WrittenView {
        board: request.board,
        key: request.key,
        epoch: position.epoch,
        revision: position.revision,
        previous_revision: deleted.previous_revision,
        expires_at: None,
        deleted: Some(deleted.deleted),
        copies: deleted.copies,
    })
}

async fn list(
    client: BlackboardAdminServiceClient<Authenticated>,
    args: ListArgs,
    output: Format,
) -> Result<(), Failure> {
    let get = async |limit, page_token| {
        let request = ListRequest {
            board: args.on.board.to_string(),
            prefix: args.prefix.clone(),
            limit,
            page_token,
            strong: args.strong,
            keys_only: args.keys_only,
            ..ListRequest::default()
        };
        let page = read(async || client.clone().list(request).await).await?;
        let entries = page.entries.into_iter();
        let views = entries.map(|entry| EntryView::of(entry, output));
        Ok((views.collect::<Result<_, _>>()?, page.next_page_token))
    };
    args.page.show(output, get).await
}

/// All of standard input, as text.
fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}
