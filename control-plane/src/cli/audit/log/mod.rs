//! `audit log`: the logs, their newest checkpoint, keys and witnesses.

mod view;

use authguardian_proto::{
    audit::v1::{GetLogRequest, GetLogResponse},
    reason::{Problem, Reason},
};
use clap::Args;
use serde::Serialize;

use self::view::{LogView, SummaryLines};
use super::{Client, retention};
use crate::cli::{
    client::read,
    failure::Failure,
    output::{Format, Page, write_stdout},
};

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Print the newest checkpoint alone: keep it outside, it says what the log was
    #[arg(long, conflicts_with = "keys")]
    checkpoint: bool,

    /// Print the verifier keys alone, one a line: keep them outside
    #[arg(long)]
    keys: bool,
}

impl LogArgs {
    pub(super) async fn run(self, client: Client, output: Format) -> Result<(), Failure> {
        let found = get(client.clone()).await?;
        if self.checkpoint {
            return checkpoint(&found, output);
        }
        if self.keys {
            return keys(&found, output);
        }
        let days = retention::days(client).await?;
        show(LogView::new(found, days), output)
    }
}

/// What the control plane says of its logs.
pub(super) async fn get(mut client: Client) -> Result<GetLogResponse, Failure> {
    read(async || client.get_log(GetLogRequest {}).await).await
}

/// Nothing is sealed yet.
pub(super) fn no_checkpoint() -> Failure {
    let detail = "the log has no checkpoint yet";
    Failure::NotFound(Problem::new(Reason::InvalidArgument, detail))
}

fn checkpoint(found: &GetLogResponse, output: Format) -> Result<(), Failure> {
    if found.checkpoint.is_empty() {
        return Err(no_checkpoint());
    }
    match output {
        Format::Table => write_stdout(&found.checkpoint),
        _ => output.one(&CheckpointView {
            checkpoint: &found.checkpoint,
        }),
    }
}

fn keys(found: &GetLogResponse, output: Format) -> Result<(), Failure> {
    let keys = found.logs.iter().flat_map(|log| &log.verifier_keys);
    let keys: Vec<_> = keys.map(String::as_str).collect();
    match output {
        Format::Table => write_stdout(&format!("{}\n", keys.join("\n"))),
        _ => output.one(&KeysView {
            verifier_keys: keys,
        }),
    }
}

fn show(view: LogView, output: Format) -> Result<(), Failure> {
    if output != Format::Table {
        return output.one(&view);
    }
    let LogView {
        logs,
        witnesses,
        summary,
    } = view;
    output.page(&page(logs))?;
    write_stdout("\n")?;
    output.one(&SummaryLines::from(summary))?;
    if !witnesses.is_empty() {
        write_stdout("\n")?;
    }
    output.page(&page(witnesses))
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page {
        items,
        next_page_token: None,
    }
}

#[derive(Debug, Serialize)]
struct CheckpointView<'a> {
    checkpoint: &'a str,
}

#[derive(Debug, Serialize)]
struct KeysView<'a> {
    verifier_keys: Vec<&'a str>,
}
