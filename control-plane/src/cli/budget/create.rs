//! `budget create`.

use authguardian_proto::{
    budgets::v1::{Budget, CreateBudgetRequest, Window},
    ids::TaskId,
};
use clap::{Args, ValueEnum};

use super::{Client, amount::parse_amount, view::BudgetView};
use crate::cli::{
    client::{RequestIdArgs, change},
    failure::Failure,
    output::Format,
};

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What it is for
    #[arg(long)]
    task: TaskId,

    /// What may be spent, in each window
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = parse_amount)]
    total: u64,

    /// What is counted, such as `tokens`
    #[arg(long)]
    unit: String,

    /// Task of the budget that the total is taken from
    #[arg(long, value_name = "TASK")]
    parent: Option<TaskId>,

    /// For how long the total lasts
    #[arg(long, value_enum, default_value_t)]
    window: WindowArg,

    /// What is left at the end of a window is added to the next
    #[arg(long)]
    carry_over: bool,

    /// Percent of the total at which it is told that so much was spent; repeatable [default: 50, 80, 100]
    #[arg(long = "threshold", value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    thresholds: Vec<u32>,

    /// Whose it is, for people
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    owner: String,

    /// An agent that may spend, or `*`; repeatable [default: *]
    #[arg(long = "spender", value_name = "AGENT")]
    spenders: Vec<String>,

    #[command(flatten)]
    request_id: RequestIdArgs,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum WindowArg {
    /// For ever
    #[default]
    None,
    /// Each minute, in UTC
    Minute,
    /// Each hour
    Hour,
    /// Each day
    Day,
    /// Each month
    Month,
}

impl From<WindowArg> for Window {
    fn from(window: WindowArg) -> Self {
        match window {
            WindowArg::None => Self::None,
            WindowArg::Minute => Self::Minute,
            WindowArg::Hour => Self::Hour,
            WindowArg::Day => Self::Day,
            WindowArg::Month => Self::Month,
        }
    }
}

impl CreateArgs {
    pub(super) async fn run(self, mut client: Client, output: Format) -> Result<(), Failure> {
        let request_id = self.request_id.resolve()?;
        let request = CreateBudgetRequest {
            budget: Some(self.into_budget()),
            request_id: request_id.clone(),
        };
        let made = change(&request_id, async || {
            client.create_budget(request.clone()).await
        })
        .await?;
        output.one(&BudgetView::from(made.budget.unwrap_or_default()))
    }

    fn into_budget(self) -> Budget {
        let mut thresholds = self.thresholds;
        thresholds.sort_unstable();
        Budget {
            task_id: self.task.to_string(),
            unit: self.unit,
            total: self.total,
            parent: self.parent.map(|task| task.to_string()).unwrap_or_default(),
            window: Window::from(self.window).into(),
            carries_over: self.carry_over,
            thresholds,
            owner: self.owner,
            spenders: self.spenders,
            ..Budget::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Create {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn budget(more: &[&str]) -> Result<Budget, clap::Error> {
        let least = ["create", "--task", "t", "--total", "10", "--unit", "tokens"];
        let create = Create::try_parse_from(least.iter().chain(more))?;
        Ok(create.args.into_budget())
    }

    #[test]
    fn what_is_not_said_is_left_to_the_server() {
        let expected = Budget {
            task_id: "t".into(),
            unit: "tokens".into(),
            total: 10,
            window: Window::None.into(),
            ..Budget::default()
        };
        assert_eq!(budget(&[]).unwrap(), expected);
    }

    #[test]
    fn thresholds_may_stand_in_any_order() {
        let thresholds = ["--threshold", "80", "--threshold", "50"];
        assert_eq!(budget(&thresholds).unwrap().thresholds, [50, 80]);
        for percent in ["0", "101", "-1", "7.5"] {
            let refused = budget(&["--threshold", percent]);
            assert!(refused.is_err(), "{percent}");
        }
    }

    #[test]
    fn a_window_is_one_of_the_calendar() {
        let day = budget(&["--window", "day", "--carry-over"]).unwrap();
        assert_eq!((day.window(), day.carries_over), (Window::Day, true));
        assert!(budget(&["--window", "week"]).is_err());
    }
}
