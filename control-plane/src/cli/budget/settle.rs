//! `budget settle`.

use authguardian_proto::{
    budgets::v1::{SettleRequest, budget_admin_service_client::BudgetAdminServiceClient},
    ids::TaskId,
};
use clap::Args;
use serde::Serialize;

use super::{amount::parse_spent, slice::SliceView};
use crate::cli::{
    client::{Authenticated, RequestIdArgs, change},
    failure::Failure,
    machine,
    output::Format,
};

#[derive(Debug, Args)]
pub(super) struct SettleArgs {
    /// Of which task
    task: TaskId,

    /// Whose slice: `mch_…` or a name
    #[arg(long)]
    machine: String,

    /// What it counts as having spent in all [default: what it has told]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_spent)]
    spent: Option<u64>,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Serialize)]
struct SettledView {
    #[serde(flatten)]
    slice: SliceView,
    /// What is free again.
    released: u64,
}

impl SettleArgs {
    pub(super) async fn run(self, channel: Authenticated, output: Format) -> Result<(), Failure> {
        let request_id = self.request_id.resolve()?;
        let request = SettleRequest {
            task_id: self.task.to_string(),
            machine_id: machine::resolve(channel.clone(), self.machine).await?,
            spent: self.spent,
            request_id: request_id.clone(),
        };
        let mut client = BudgetAdminServiceClient::new(channel);
        let settled = change(&request_id, async || client.settle(request.clone()).await).await?;
        output.one(&SettledView {
            slice: SliceView::from(settled.slice.unwrap_or_default()),
            released: settled.released,
        })
    }
}
