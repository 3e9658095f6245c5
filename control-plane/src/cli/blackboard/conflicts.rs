//! `blackboard conflicts`.

use authguardian_proto::{
    blackboard::v1::{
        Conflict, ListConflictsRequest, Version,
        blackboard_admin_service_client::BlackboardAdminServiceClient,
    },
    crdt::{self, Siblings, Write},
};
use clap::Args;
use serde::Serialize;

use super::{
    OnBoard,
    entry::{Json, short},
};
use crate::cli::{
    client::{Authenticated, read},
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{rfc3339, short_time, timestamp},
};

#[derive(Debug, Args)]
pub(super) struct ConflictsArgs {
    #[command(flatten)]
    on: OnBoard,
    /// What keys begin with
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    #[command(flatten)]
    page: PageArgs,
}

/// A key and its values.
#[derive(Debug, Serialize)]
struct ConflictView {
    key: String,
    /// The one that readers are told first.
    values: Vec<ValueView>,
}

/// One of several values.
#[derive(Debug, Serialize)]
struct ValueView {
    value: Json,
    /// Whether readers are told this one.
    is_told: bool,
    writer: String,
    /// `None`: it was written at the control plane.
    machine_id: Option<String>,
    written_at: Option<String>,
}

impl ConflictsArgs {
    pub(super) async fn run(
        self,
        client: BlackboardAdminServiceClient<Authenticated>,
        output: Format,
    ) -> Result<(), Failure> {
        let get = async |page_size, page_token| {
            let request = ListConflictsRequest {
                board: self.on.board.to_string(),
                prefix: self.prefix.clone(),
                page_size,
                page_token,
            };
            let page = read(async || client.clone().list_conflicts(request).await).await?;
            let conflicts = page.conflicts.into_iter();
            let views = conflicts.map(|conflict| ConflictView::of(conflict, output));
            Ok((views.collect::<Result<_, _>>()?, page.next_page_token))
        };
        self.page.show(output, get).await
    }
}

impl ConflictView {
    fn of(conflict: Conflict, output: Format) -> Result<Self, Failure> {
        let versions = conflict.siblings.unwrap_or_default().versions;
        let siblings = siblings(versions)?;
        let told = siblings.winner().map(|winner| winner.dot);
        let mut values = Vec::new();
        for version in siblings.versions() {
            let Some(value) = &version.content.value else {
                continue;
            };
            let machine = version.dot.actor.machine;
            let at = i128::from(version.time.millis()) * 1_000_000;
            let at = time::OffsetDateTime::from_unix_timestamp_nanos(at).ok();
            values.push(ValueView {
                value: Json::of(value.to_string(), output)?,
                is_told: Some(version.dot) == told,
                writer: version.content.writer.to_string(),
                machine_id: (!machine.as_uuid().is_nil()).then(|| machine.to_string()),
                written_at: rfc3339(at.map(timestamp).as_ref()),
            });
        }
        values.sort_by_key(|value| !value.is_told);
        Ok(Self {
            key: conflict.key,
            values,
        })
    }
}

fn siblings(versions: Vec<Version>) -> Result<Siblings<Write>, Failure> {
    let read = versions.into_iter().map(|version| {
        crdt::Version::from_proto(version)
            .map(|(_, version)| version)
            .map_err(|error| Failure::internal(format!("the control plane has told {error}")))
    });
    read.collect()
}

impl Row for ConflictView {
    const PLURAL: &'static str = "conflicts";
    const COLUMNS: &'static [&'static str] = &["KEY", "VALUES", "WRITERS", "WRITTEN"];

    fn cells(&self) -> Vec<String> {
        let each = |show: &dyn Fn(&ValueView) -> String| {
            let shown: Vec<String> = self.values.iter().map(show).collect();
            shown.join("\n")
        };
        vec![
            self.key.clone(),
            each(&|value| short(value.value.text())),
            each(&|value| match &value.machine_id {
                Some(machine) => format!("{} at {machine}", value.writer),
                None => value.writer.clone(),
            }),
            each(&|value| short_time(value.written_at.as_deref())),
        ]
    }
}
