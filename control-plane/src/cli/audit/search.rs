//! `audit search`.

use authguardian_proto::{audit::v1::SearchEntriesRequest, ids::AgentId};
use clap::{Args, builder::PossibleValuesParser};

use super::{
    Client,
    entry::EntryView,
    moment::{Moment, parse_moment},
};
use crate::cli::{
    ambient,
    client::{Authenticated, read},
    failure::Failure,
    machine,
    output::Format,
    page::PageArgs,
};

#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// The agent whose affair it is, or that acted
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,

    /// Through which machine: `mch_…` or a name
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,

    /// What was done, such as `grant.revoke`, or `grant.*` for all that begins so
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,

    /// What came of it
    #[arg(long, value_parser = PossibleValuesParser::new(["ok", "denied", "refused", "failed"]))]
    outcome: Option<String>,

    /// On what, exactly: `grt_…`, an agent id …
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// Not before: a time (RFC 3339), or how long ago (`2h`, `7d`)
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<Moment>,

    /// Before: a time (RFC 3339), or how long ago
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<Moment>,

    #[command(flatten)]
    page: PageArgs,
}

impl SearchArgs {
    pub(super) async fn run(
        self,
        channel: Authenticated,
        client: Client,
        output: Format,
    ) -> Result<(), Failure> {
        let now = ambient()?.clock.now();
        let machine_id = match self.machine {
            Some(machine) => machine::resolve(channel, machine).await?,
            None => String::new(),
        };
        let wanted = SearchEntriesRequest {
            agent_id: self
                .agent
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            machine_id,
            action: self.action.unwrap_or_default(),
            outcome: self.outcome.unwrap_or_default(),
            since: self.since.map(|moment| moment.at(now)),
            until: self.until.map(|moment| moment.at(now)),
            subject: self.subject.unwrap_or_default(),
            ..SearchEntriesRequest::default()
        };
        let get = async |page_size, page_token| {
            let request = SearchEntriesRequest {
                page_size,
                page_token,
                ..wanted.clone()
            };
            let page = read(async || client.clone().search_entries(request).await).await?;
            let entries = page.entries.into_iter().map(EntryView::from);
            Ok((entries.collect(), page.next_page_token))
        };
        self.page.show(output, get).await
    }
}
