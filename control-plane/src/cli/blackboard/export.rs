//! `blackboard export`.

use authguardian_proto::blackboard::v1::{
    Entry, ListRequest, blackboard_admin_service_client::BlackboardAdminServiceClient,
};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::OnBoard;
use crate::cli::{
    client::{Authenticated, read},
    failure::Failure,
    output::{note, write_stdout},
    value::rfc3339,
};

/// Keys that are read at once.
const PAGE: u32 = 1000;

#[derive(Debug, Args)]
#[command(
    after_help = "Each line is {\"key\": …, \"value\": …, \"writer\": …, \"written_at\": …} and, where it ends by itself, \"expires_at\". Locks are left out. Keys are read in pages, each as it was at one revision; what is written meanwhile may be in a later page or not. Of keys with several values (`blackboard conflicts`) there is the one that readers are told."
)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    on: OnBoard,
    /// What keys begin with
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) value: Box<RawValue>,
    /// For people: what is imported is the importer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    written_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
}

impl Line {
    fn of(entry: Entry) -> Result<Self, Failure> {
        let value = RawValue::from_string(entry.value).map_err(|error| {
            Failure::internal(format!(
                "the control plane sent a value that is no JSON: {error}"
            ))
        })?;
        Ok(Self {
            key: entry.key,
            value,
            writer: Some(entry.writer),
            written_at: rfc3339(entry.written_at.as_ref()),
            expires_at: rfc3339(entry.expires_at.as_ref()),
        })
    }
}

impl ExportArgs {
    pub(super) async fn run(
        self,
        client: BlackboardAdminServiceClient<Authenticated>,
    ) -> Result<(), Failure> {
        let (mut page_token, mut written) = (String::new(), 0_u64);
        loop {
            let request = ListRequest {
                board: self.on.board.to_string(),
                prefix: self.prefix.clone(),
                limit: PAGE,
                page_token,
                ..ListRequest::default()
            };
            let page = read(async || client.clone().list(request).await).await?;
            let mut lines = String::new();
            for entry in page.entries.into_iter().filter(|entry| !entry.is_lock) {
                let line = serde_json::to_string(&Line::of(entry)?);
                lines += &line.map_err(|error| Failure::internal(error.to_string()))?;
                lines.push('\n');
                written += 1;
            }
            write_stdout(&lines)?;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        note(&format!("{written} keys of board `{}`", self.on.board))
    }
}
