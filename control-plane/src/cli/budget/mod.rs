//! `budget`: amounts that many machines spend from together.

mod amount;
mod create;
mod held;
mod history;
mod settle;
mod slice;
mod view;

use authguardian_proto::{
    budgets::v1::{
        CloseRequest, FreezeRequest, GetBudgetRequest, ListBudgetsRequest, RebalanceRequest,
        TopUpRequest, budget_admin_service_client::BudgetAdminServiceClient,
    },
    ids::TaskId,
};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::{
    amount::parse_amount,
    create::CreateArgs,
    history::HistoryArgs,
    settle::SettleArgs,
    view::{BudgetView, StatusView, show},
};
use super::{
    client::{Authenticated, ClientArgs, RequestIdArgs, change, read},
    failure::Failure,
    output::Format,
    page::PageArgs,
};

type Client = BudgetAdminServiceClient<Authenticated>;

const EXAMPLES: &str = "\
Examples:
  control-plane budget create --task report/q4 --total 10000 --unit tokens
  control-plane budget create --task report/q4/figures --total 2000 --unit tokens --parent report/q4 --spender data_analyst
  control-plane budget create --task mail --total 500 --unit messages --window day --carry-over --threshold 80 --owner \"sales\"
  control-plane budget list
  control-plane budget list --watch
  control-plane budget show report/q4
  control-plane budget show report/q4 -o json | jq .remaining
  control-plane budget history report/q4 --limit 20
  control-plane budget top-up report/q4 --amount 5000
  control-plane budget rebalance report/q4
  control-plane budget settle report/q4 --machine build-7
  control-plane budget settle report/q4 --machine build-7 --spent 350
  control-plane budget freeze report/q4
  control-plane budget thaw report/q4
  control-plane budget close report/q4

`reported` is what machines have told that they spent, `outstanding` what they and budgets below hold and have not told of, `remaining` what can still be given: reported - overdraft + outstanding never goes beyond the total. `overdraft` is the part of `reported` that nobody had; nothing is given until a top-up covers it.

A machine that is not heard of in time is silent: what it holds (`suspense`) counts as spent until it reports, or `settle` ends its slice. What it tells after that is overdraft. Until its lease has ended (`budgets.lease_seconds`) it cannot be settled, and where it is cut off it may still spend from a budget that was frozen or closed meanwhile.

After a restore of the database from a backup a budget is `held`: nothing is given of it until every machine that may have spent from it has told all that it remembers. `show` tells which are awaited; `settle --spent N` says it for a machine that never will, and `thaw` ends the hold.

Amounts are whole numbers in the budget's unit. Without `--spender` every agent may spend. With a parent the total is taken from that one, and what was not spent goes back when the budget is closed.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BudgetArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a budget
    Create(Box<CreateArgs>),
    /// List budgets by task, each with what there is of it
    List(PageArgs),
    /// Show one budget: what there is of it, and who has which part
    Show {
        /// Of which task
        task: TaskId,
    },
    /// List what was moved, the newest first
    History(HistoryArgs),
    /// Raise the total; overdraft is covered first
    TopUp(TopUpArgs),
    /// Ask machines to give back what lies idle with them
    Rebalance(OnTask),
    /// End the slice of a silent machine: what it has not told of is free again
    Settle(SettleArgs),
    /// Stop reservations, until it is thawed
    Freeze(OnTask),
    /// Let a frozen or held budget be spent from again
    Thaw(OnTask),
    /// End a budget for good: nothing is given any more
    Close(OnTask),
}

#[derive(Debug, Args)]
struct OnTask {
    /// Of which task
    task: TaskId,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Args)]
struct TopUpArgs {
    /// Of which task
    task: TaskId,

    /// By how much
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_amount)]
    amount: u64,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

impl BudgetArgs {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let channel = self.client.connect().await?;
        let mut client = BudgetAdminServiceClient::new(channel.clone());
        let output = self.client.output;
        match self.verb {
            Verb::Create(args) => args.run(client, output).await,
            Verb::List(args) => list(client, &args, output).await,
            Verb::Show { task } => {
                let request = GetBudgetRequest {
                    task_id: task.to_string(),
                };
                show(
                    read(async || client.get_budget(request).await).await?,
                    output,
                )
            }
            Verb::History(args) => args.run(client, output).await,
            Verb::TopUp(args) => top_up(client, args, output).await,
            Verb::Rebalance(args) => rebalance(client, args, output).await,
            Verb::Settle(args) => args.run(channel, output).await,
            Verb::Freeze(args) => freeze(client, args, true, output).await,
            Verb::Thaw(args) => freeze(client, args, false, output).await,
            Verb::Close(args) => close(client, args, output).await,
        }
    }
}

async fn list(client: Client, args: &PageArgs, output: Format) -> Result<(), Failure> {
    let get = async |page_size, page_token| {
        let request = ListBudgetsRequest {
            page_size,
            page_token,
        };
        let page = read(async || client.clone().list_budgets(request).await).await?;
        Ok((
            page.budgets.into_iter().map(StatusView::from).collect(),
            page.next_page_token,
        ))
    };
    args.show(output, get).await
}

async fn top_up(mut client: Client, args: TopUpArgs, output: Format) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = TopUpRequest {
        task_id: args.task.to_string(),
        amount: args.amount,
        request_id: request_id.clone(),
    };
    let raised = change(&request_id, async || client.top_up(request.clone()).await).await?;
    show(raised.budget.unwrap_or_default(), output)
}

async fn rebalance(mut client: Client, args: OnTask, output: Format) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = RebalanceRequest {
        task_id: args.task.to_string(),
        request_id: request_id.clone(),
    };
    let called = change(&request_id, async || {
        client.rebalance(request.clone()).await
    })
    .await?;
    output.one(&RecalledView {
        task_id: args.task.to_string(),
        asked: called.asked,
    })
}

async fn freeze(
    mut client: Client,
    args: OnTask,
    frozen: bool,
    output: Format,
) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = FreezeRequest {
        task_id: args.task.to_string(),
        frozen,
        request_id: request_id.clone(),
    };
    let changed = change(&request_id, async || client.freeze(request.clone()).await).await?;
    output.one(&BudgetView::from(changed.budget.unwrap_or_default()))
}

async fn close(mut client: Client, args: OnTask, output: Format) -> Result<(), Failure> {
    let request_id = args.request_id.resolve()?;
    let request = CloseRequest {
        task_id: args.task.to_string(),
        request_id: request_id.clone(),
    };
    let closed = change(&request_id, async || client.close(request.clone()).await).await?;
    show(closed.budget.unwrap_or_default(), output)
}

#[derive(Debug, Serialize)]
struct RecalledView {
    task_id: String,
    /// What lies idle, and comes back as machines report next.
    asked: u64,
}
