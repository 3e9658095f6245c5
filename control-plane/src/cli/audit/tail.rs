//! `audit tail`.

use authguardian_proto::{audit::v1::TailEntriesRequest, status::from_status};
use clap::Args;

use super::{Client, entry::EntryView};
use crate::cli::{client::read, failure::Failure, output::Format};

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// How many of the newest to begin with
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    lines: u32,

    /// Go on with new ones, once they are sealed, until interrupted
    #[arg(short, long)]
    follow: bool,
}

impl TailArgs {
    pub(super) async fn run(self, mut client: Client, output: Format) -> Result<(), Failure> {
        let request = TailEntriesRequest {
            lines: self.lines,
            follow: self.follow,
        };
        let mut entries = read(async || client.tail_entries(request).await).await?;
        while let Some(batch) = entries
            .message()
            .await
            .map_err(|status| from_status(&status))?
        {
            for entry in batch.entries {
                let view = EntryView::from(entry);
                output.entry(&view, &view.line())?;
            }
        }
        Ok(())
    }
}
