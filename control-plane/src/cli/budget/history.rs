//! `budget history`.

use authguardian_proto::{
    budgets::v1::{ListMovementsRequest, Movement},
    ids::TaskId,
};
use clap::Args;
use serde::Serialize;

use super::{Client, view::AccountView};
use crate::cli::{
    client::read,
    failure::Failure,
    output::{Format, Row},
    page::PageArgs,
    value::{non_empty, or_dash, rfc3339, short_time},
};

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Of which task
    task: TaskId,

    #[command(flatten)]
    page: PageArgs,
}

impl HistoryArgs {
    pub(super) async fn run(self, client: Client, output: Format) -> Result<(), Failure> {
        let get = async |page_size, page_token| {
            let request = ListMovementsRequest {
                task_id: self.task.to_string(),
                page_token,
                page_size,
            };
            let page = read(async || client.clone().list_movements(request).await).await?;
            Ok((
                page.movements.into_iter().map(MovementView::from).collect(),
                page.next_page_token,
            ))
        };
        self.page.show(output, get).await
    }
}

/// Something that was moved, and what there was after it.
#[derive(Debug, Serialize)]
struct MovementView {
    number: u64,
    occurred_at: Option<String>,
    kind: String,
    amount: u64,
    machine_id: Option<String>,
    epoch: Option<u64>,
    child: Option<String>,
    #[serde(flatten)]
    account: AccountView,
}

impl From<Movement> for MovementView {
    fn from(movement: Movement) -> Self {
        Self {
            number: movement.number,
            occurred_at: rfc3339(movement.occurred_at.as_ref()),
            kind: movement.kind,
            amount: movement.amount,
            machine_id: non_empty(movement.machine_id),
            epoch: (movement.epoch > 0).then_some(movement.epoch),
            child: non_empty(movement.child),
            account: AccountView::from(movement.account.unwrap_or_default()),
        }
    }
}

impl Row for MovementView {
    const PLURAL: &'static str = "movements";
    const COLUMNS: &'static [&'static str] = &[
        "NUMBER",
        "WHEN",
        "KIND",
        "AMOUNT",
        "WHOSE",
        "TOTAL",
        "REPORTED",
        "OUTSTANDING",
        "REMAINING",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            short_time(self.occurred_at.as_deref()),
            self.kind.clone(),
            self.amount.to_string(),
            or_dash(&self.whose()),
            self.account.total.to_string(),
            self.account.reported.to_string(),
            self.account.outstanding.to_string(),
            self.account.remaining.to_string(),
        ]
    }
}

impl MovementView {
    /// A machine's slice, or the budget below.
    fn whose(&self) -> String {
        match (&self.machine_id, self.epoch) {
            (Some(machine), Some(epoch)) => format!("{machine}#{epoch}"),
            (Some(machine), None) => machine.clone(),
            (None, _) => self.child.clone().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::budgets::v1::Account;

    use super::*;

    fn granted() -> Movement {
        Movement {
            number: 2,
            kind: "granted".into(),
            amount: 30,
            machine_id: "mch_0000000000000000000007".into(),
            epoch: 3,
            account: Some(Account {
                total: 100,
                outstanding: 30,
                remaining: 70,
                ..Account::default()
            }),
            ..Movement::default()
        }
    }

    #[test]
    fn a_movement_says_whose_it_was_and_what_there_was_then() {
        let cells = MovementView::from(granted()).cells();
        let expected = [
            "2",
            "-",
            "granted",
            "30",
            "mch_0000000000000000000007#3",
            "100",
            "0",
            "30",
            "70",
        ];
        assert_eq!(cells, expected);
        let of_child = Movement {
            machine_id: String::new(),
            epoch: 0,
            child: "q4/figures".into(),
            ..granted()
        };
        assert_eq!(MovementView::from(of_child).whose(), "q4/figures");
    }

    #[test]
    fn programs_read_the_amounts_beside_the_movement() {
        let json = serde_json::to_value(MovementView::from(granted())).unwrap();
        assert_eq!(
            (&json["amount"], &json["remaining"]),
            (&30.into(), &70.into())
        );
        assert_eq!(json["child"], serde_json::Value::Null);
    }
}
