//! `audit retention`: how long bodies of entries are kept.

use authguardian_proto::audit::v1::{GetRetentionRequest, SetRetentionRequest};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Client;
use crate::cli::{
    client::{RequestIdArgs, change, read},
    failure::Failure,
    output::{Format, confirm, note, write_stdout},
};

#[derive(Debug, Args)]
pub(super) struct RetentionArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Tell how long bodies are kept
    Show,
    /// Keep bodies for so long from now on; older ones are dropped for good
    Set(SetArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Days that bodies are kept; 0: for ever
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=36_500))]
    days: u32,

    /// Do not ask; without a terminal nobody is asked either
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Serialize)]
struct RetentionView {
    /// 0: for ever.
    days: u32,
}

impl RetentionArgs {
    pub(super) async fn run(self, client: Client, output: Format) -> Result<(), Failure> {
        let days = match self.verb {
            None | Some(Verb::Show) => days(client).await?,
            Some(Verb::Set(args)) => set(client, args).await?,
        };
        match output {
            Format::Table => write_stdout(&format!("bodies are kept {}\n", kept(days))),
            _ => output.one(&RetentionView { days }),
        }
    }
}

/// Days that bodies are kept; 0: for ever.
pub(super) async fn days(mut client: Client) -> Result<u32, Failure> {
    let found = read(async || client.get_retention(GetRetentionRequest {}).await).await?;
    Ok(found.days)
}

async fn set(mut client: Client, args: SetArgs) -> Result<u32, Failure> {
    let days = args.days;
    let question = format!("drop the bodies of all entries that are older than {days} days?");
    if days > 0 && !args.yes && !confirm(&question)? {
        note("nothing was changed")?;
        return Err(Failure::Told(1));
    }
    let request_id = args.request_id.resolve()?;
    let request = SetRetentionRequest {
        request_id: request_id.clone(),
        days,
    };
    let set = change(&request_id, async || {
        client.set_retention(request.clone()).await
    })
    .await?;
    Ok(set.days)
}

/// The same in words.
pub(super) fn kept(days: u32) -> String {
    match days {
        0 => "for ever".to_owned(),
        1 => "for 1 day".to_owned(),
        _ => format!("for {days} days"),
    }
}
