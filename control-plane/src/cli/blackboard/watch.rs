//! `blackboard watch`.

use authguardian_proto::{
    blackboard::v1::{
        BoardChange, WatchRequest, WatchResponse,
        blackboard_admin_service_client::BlackboardAdminServiceClient, board_change::Kind,
    },
    board::Key,
    common::v1::Position,
    status::from_status,
};
use clap::Args;
use serde::Serialize;

use super::{OnBoard, entry::EntryView};
use crate::cli::{
    client::{Authenticated, read},
    failure::Failure,
    output::Format,
    value::enum_name,
};

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    on: OnBoard,
    /// This key alone
    #[arg(long, conflicts_with = "prefix")]
    key: Option<Key>,
    /// What keys begin with
    #[arg(long, default_value = "", hide_default_value = true)]
    prefix: String,
    /// Changes after this position, as the last line told it; without it, from now on
    #[arg(long, value_name = "EPOCH.REVISION", value_parser = parse_position)]
    after: Option<Position>,
    /// Tell what was there before, too
    #[arg(long)]
    previous: bool,
}

fn parse_position(text: &str) -> Result<Position, String> {
    let expected = || "expected an epoch and a revision, such as `1.1042`".to_owned();
    let (epoch, revision) = text.split_once('.').ok_or_else(expected)?;
    Ok(Position {
        epoch: epoch.parse().map_err(|_| expected())?,
        revision: revision.parse().map_err(|_| expected())?,
    })
}

impl WatchArgs {
    pub(super) async fn run(
        self,
        mut client: BlackboardAdminServiceClient<Authenticated>,
        output: Format,
    ) -> Result<(), Failure> {
        let request = WatchRequest {
            board: self.on.board.to_string(),
            key: self
                .key
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            prefix: self.prefix,
            after: self.after,
            previous: self.previous,
            ..WatchRequest::default()
        };
        let mut messages = read(async || client.watch(request).await).await?;
        while let Some(message) = messages
            .message()
            .await
            .map_err(|status| from_status(&status))?
        {
            tell(message, output)?;
        }
        Ok(())
    }
}

fn tell(message: WatchResponse, output: Format) -> Result<(), Failure> {
    let position = message.position.unwrap_or_default();
    let position = format!("{}.{}", position.epoch, position.revision);
    for change in message.changes {
        let view = ChangeView::of(change, position.clone(), output)?;
        output.entry(&view, &view.line())?;
    }
    Ok(())
}

/// A change of a key.
#[derive(Debug, Serialize)]
struct ChangeView {
    position: String,
    kind: String,
    entry: EntryView,
    previous_revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<EntryView>,
}

impl ChangeView {
    fn of(change: BoardChange, position: String, output: Format) -> Result<Self, Failure> {
        let kind = Kind::try_from(change.kind).unwrap_or_default();
        Ok(Self {
            position,
            kind: enum_name(kind.as_str_name(), "KIND_"),
            entry: EntryView::of(change.entry.unwrap_or_default(), output)?,
            previous_revision: change.previous_revision.unwrap_or_default(),
            previous: change
                .previous
                .map(|entry| EntryView::of(entry, output))
                .transpose()?,
        })
    }

    /// Columns of fixed width, since the end of the list is not known.
    fn line(&self) -> String {
        let was = self.previous.as_ref().map(EntryView::short_value);
        let was = was.map(|was| format!("  (was {was})")).unwrap_or_default();
        format!(
            "{:<10}  {:<6}  {}  {}  {}{was}",
            self.position,
            self.kind,
            self.entry.writer(),
            self.entry.key(),
            self.entry.short_value(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_has_two_numbers() {
        let position = parse_position("2.17").unwrap();
        assert_eq!((position.epoch, position.revision), (2, 17));
        for bad in ["", "17", "a.1", "1.", "1.2.3"] {
            assert!(parse_position(bad).is_err(), "{bad}");
        }
    }
}
