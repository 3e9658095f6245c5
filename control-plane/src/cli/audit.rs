//! `audit`: who did what, when, and what came of it.

use std::fmt::Write;

use authguardian_proto::{
    audit::v1::{Entry, TailEntriesRequest, audit_admin_service_client::AuditAdminServiceClient},
    status::from_status,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::{ClientArgs, read},
    failure::Failure,
    value::{non_empty, or_dash, rfc3339, short_time},
};

const EXAMPLES: &str = "\
Examples:
  control-plane audit tail -n 100
  control-plane audit tail --follow -o json | jq 'select(.outcome != \"ok\")'

With `-o json` each entry is one line.";

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
}

#[derive(Debug, Args)]
struct TailArgs {
    /// How many of the newest to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    lines: u32,

    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Verb::Tail(args) = self.verb;
        let mut client = AuditAdminServiceClient::new(self.client.connect().await?);
        let request = TailEntriesRequest {
            lines: args.lines,
            follow: args.follow,
        };
        let mut entries = read(async || client.tail_entries(request).await).await?;
        while let Some(batch) = entries
            .message()
            .await
            .map_err(|status| from_status(&status))?
        {
            for entry in batch.entries {
                let view = EntryView::from(entry);
                self.client.output.entry(&view, &view.line())?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct EntryView {
    sequence: u64,
    occurred_at: Option<String>,
    caller: String,
    key_id: Option<String>,
    machine_id: Option<String>,
    peer_address: Option<String>,
    zone: Option<String>,
    action: String,
    subject: String,
    outcome: String,
    reason: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    count: u64,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            sequence: entry.sequence,
            occurred_at: rfc3339(entry.occurred_at.as_ref()),
            caller: entry.caller,
            key_id: non_empty(entry.key_id),
            machine_id: non_empty(entry.machine_id),
            peer_address: non_empty(entry.peer_address),
            zone: non_empty(entry.zone),
            action: entry.action,
            subject: entry.subject,
            outcome: entry.outcome,
            reason: non_empty(entry.reason),
            request_id: non_empty(entry.request_id),
            trace_id: non_empty(entry.trace_id),
            count: entry.count,
        }
    }
}

impl EntryView {
    /// Columns of fixed width, since the end of the list is not known.
    fn line(&self) -> String {
        let mut line = format!(
            "{}  {:<7}  {:<22}  {}  {}",
            short_time(self.occurred_at.as_deref()),
            self.outcome,
            self.action,
            self.caller,
            or_dash(&self.subject),
        );
        if let Some(reason) = &self.reason {
            line.push_str("  ");
            line.push_str(reason);
        }
        if self.count > 1 {
            // writing to a String cannot fail
            let _ = write!(line, "  ({} times)", self.count);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_who_and_why() {
        let entry = Entry {
            occurred_at: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 5,
            }),
            caller: "agent:data_analyst".into(),
            action: "grant.request".into(),
            subject: "grt_x".into(),
            outcome: "denied".into(),
            reason: "SCORE_TOO_LOW".into(),
            count: 3,
            ..Entry::default()
        };
        assert_eq!(
            EntryView::from(entry).line(),
            "1970-01-01T00:00:00Z  denied   grant.request           agent:data_analyst  grt_x  SCORE_TOO_LOW  (3 times)"
        );
    }
}
