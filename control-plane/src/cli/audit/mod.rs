//! `audit`: who did what, when, and what came of it, in a log that proves
//! itself.

mod consistency;
mod database;
mod entry;
mod export;
#[cfg(test)]
mod fixture;
mod keys;
mod line;
mod log;
mod misfit;
mod moment;
mod offline;
mod progress;
mod proof;
mod prove;
mod retention;
mod search;
mod tail;
mod verify;

use authguardian_proto::audit::v1::audit_admin_service_client::AuditAdminServiceClient;
use clap::{Args, Subcommand};

use self::{
    consistency::ConsistencyArgs, export::ExportArgs, log::LogArgs, prove::ProveArgs,
    retention::RetentionArgs, search::SearchArgs, tail::TailArgs, verify::VerifyArgs,
};
use super::{
    client::{Authenticated, ClientArgs},
    failure::Failure,
};

type Client = AuditAdminServiceClient<Authenticated>;

/// Most bytes of one answer: a page of an export, or of a search.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

const EXAMPLES: &str = "\
Examples:
  control-plane audit tail -n 100
  control-plane audit tail --follow -o json | jq 'select(.outcome != \"ok\")'
  control-plane audit search --agent data_analyst --since 2h
  control-plane audit search --action 'grant.*' --outcome refused --since 2026-11-01T00:00:00Z --until 7d --all -o json
  control-plane audit log
  control-plane audit log --checkpoint > checkpoint.txt
  control-plane audit log --keys > keys.txt
  control-plane audit verify --checkpoint checkpoint.txt
  control-plane audit verify --export audit.jsonl --checkpoint checkpoint.txt --keys keys.txt
  control-plane audit verify --proof entry-17.json --keys keys.txt
  control-plane audit prove --index 17 --file entry-17.json
  control-plane audit consistency --from 1000 --file since-1000.json
  control-plane audit export --file audit.jsonl
  control-plane audit export --file audit.jsonl --resume
  control-plane audit retention
  control-plane audit retention set --days 365

With `tail -o json` each entry is one line. INDEX is where an entry stands in the log; `-` until it is sealed, within about a second.

Each entry is a leaf of a Merkle tree (RFC 6962), whose head is signed as a checkpoint (C2SP tlog-checkpoint). Who keeps a checkpoint outside can tell later whether anything before it was changed; `verify`, and files of `export`, `prove` and `consistency`, need no trust in whoever runs the database.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the newest entries, the oldest of them first
    Tail(TailArgs),
    /// List entries that fit, the newest first
    Search(Box<SearchArgs>),
    /// Tell of the log: its size, newest checkpoint, keys and witnesses
    Log(LogArgs),
    /// Check that nothing was changed: in the database, in an export or in a proof
    Verify(VerifyArgs),
    /// Prove that an entry is in the log
    Prove(ProveArgs),
    /// Prove that the log of one size is the beginning of that of a later one
    Consistency(ConsistencyArgs),
    /// Write the log as JSON lines, with a checkpoint at the end
    Export(ExportArgs),
    /// How long bodies of entries are kept; their hashes stay
    Retention(RetentionArgs),
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let output = self.client.output;
        let verb = match self.verb {
            Verb::Verify(args) if args.is_offline() => return args.offline(output),
            verb => verb,
        };
        let channel = self.client.connect().await?;
        let client =
            AuditAdminServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
        match verb {
            Verb::Tail(args) => args.run(client, output).await,
            Verb::Search(args) => args.run(channel, client, output).await,
            Verb::Log(args) => args.run(client, output).await,
            Verb::Verify(args) => args.database(client, output).await,
            Verb::Prove(args) => args.run(client).await,
            Verb::Consistency(args) => args.run(client).await,
            Verb::Export(args) => args.run(client).await,
            Verb::Retention(args) => args.run(client, output).await,
        }
    }
}
