//! Budgets as they are shown.

use std::mem;

use authguardian_proto::budgets::v1::{Account, Budget, GetBudgetResponse, State, Window};
use prost_types::Timestamp;
use serde::Serialize;

use super::{
    held::{self, AwaitedView},
    slice::{SliceView, advice},
};
use crate::cli::{
    failure::Failure,
    grant::PositionView,
    output::{Format, Page, Row, note, write_stdout},
    value::{enum_name, non_empty, rfc3339},
};

/// A budget as operators made it.
#[derive(Debug, Serialize)]
pub(super) struct BudgetView {
    pub task_id: String,
    pub unit: String,
    /// In each window.
    pub total: u64,
    #[serde(flatten)]
    pub terms: TermsView,
}

/// What is said of a budget beside its amounts.
#[derive(Debug, Serialize)]
pub(super) struct TermsView {
    state: String,
    parent: Option<String>,
    window: String,
    carries_over: bool,
    thresholds: Vec<u32>,
    owner: String,
    spenders: Vec<String>,
    created_at: Option<String>,
    /// Since when nothing is given of it, as the database was restored; `None`: it is not held.
    held_since: Option<String>,
    /// The state of which time was restored.
    held_as_of: Option<String>,
}

/// What there is in one window.
#[derive(Debug, Serialize)]
pub(super) struct AccountView {
    /// With what was carried into it.
    pub total: u64,
    pub reported: u64,
    pub overdraft: u64,
    pub outstanding: u64,
    pub suspense: u64,
    pub remaining: u64,
    /// `None`: there is no window.
    pub window_begins: Option<String>,
    pub window_ends: Option<String>,
}

/// A budget, and what there is of it now.
#[derive(Debug, Serialize)]
pub(super) struct StatusView {
    task_id: String,
    unit: String,
    #[serde(flatten)]
    account: AccountView,
    /// `None`: there is one window, and it has `total`.
    total_per_window: Option<u64>,
    #[serde(flatten)]
    terms: TermsView,
    /// Of the stream `budgets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<PositionView>,
}

/// As `show` writes it for programs.
#[derive(Debug, Serialize)]
struct ShownView<'a> {
    #[serde(flatten)]
    status: &'a StatusView,
    slices: &'a [SliceView],
    /// Machines that it is held for.
    awaited: &'a [AwaitedView],
}

/// Writes a budget and who has which part of it; people are told what to do about
/// machines that are silent.
pub(super) fn show(mut found: GetBudgetResponse, output: Format) -> Result<(), Failure> {
    let slices = mem::take(&mut found.slices)
        .into_iter()
        .map(SliceView::from);
    let slices: Vec<_> = slices.collect();
    let awaited = mem::take(&mut found.awaited)
        .into_iter()
        .map(AwaitedView::from);
    let awaited: Vec<_> = awaited.collect();
    let status = StatusView::from(found);
    if output != Format::Table {
        return output.one(&ShownView {
            status: &status,
            slices: &slices,
            awaited: &awaited,
        });
    }
    output.one(&status)?;
    let slices = Page {
        items: slices,
        next_page_token: None,
    };
    if !slices.items.is_empty() {
        write_stdout("\n")?;
    }
    output.page(&slices)?;
    if status.terms.held_since.is_some() {
        return note(&held::advice(&status.task_id, &awaited));
    }
    match advice(&status.task_id, &slices.items) {
        Some(advice) => note(&advice),
        None => Ok(()),
    }
}

impl From<Budget> for BudgetView {
    fn from(budget: Budget) -> Self {
        Self {
            task_id: budget.task_id.clone(),
            unit: budget.unit.clone(),
            total: budget.total,
            terms: budget.into(),
        }
    }
}

impl From<Budget> for TermsView {
    fn from(budget: Budget) -> Self {
        let is_held = budget.state() == State::Held;
        let hold = |at: Option<&Timestamp>| rfc3339(at.filter(|_| is_held));
        Self {
            held_since: hold(budget.held_since.as_ref()),
            held_as_of: hold(budget.held_as_of.as_ref()),
            state: enum_name(budget.state().as_str_name(), "STATE_"),
            window: match budget.window() {
                Window::Unspecified => "none".to_owned(),
                window => enum_name(window.as_str_name(), "WINDOW_"),
            },
            parent: non_empty(budget.parent),
            carries_over: budget.carries_over,
            thresholds: budget.thresholds,
            owner: budget.owner,
            spenders: budget.spenders,
            created_at: rfc3339(budget.created_at.as_ref()),
        }
    }
}

impl From<Account> for AccountView {
    fn from(account: Account) -> Self {
        Self {
            total: account.total,
            reported: account.reported,
            overdraft: account.overdraft,
            outstanding: account.outstanding,
            suspense: account.suspense,
            remaining: account.remaining,
            window_begins: rfc3339(account.window_begins.as_ref()),
            window_ends: rfc3339(account.window_ends.as_ref()),
        }
    }
}

impl From<GetBudgetResponse> for StatusView {
    fn from(found: GetBudgetResponse) -> Self {
        let budget = found.budget.unwrap_or_default();
        let has_windows = !matches!(budget.window(), Window::Unspecified | Window::None);
        Self {
            task_id: budget.task_id.clone(),
            unit: budget.unit.clone(),
            account: found.account.unwrap_or_default().into(),
            total_per_window: has_windows.then_some(budget.total),
            terms: budget.into(),
            position: found.position.map(PositionView::from),
        }
    }
}

impl Row for StatusView {
    const PLURAL: &'static str = "budgets";
    const COLUMNS: &'static [&'static str] = &[
        "TASK",
        "UNIT",
        "TOTAL",
        "REPORTED",
        "OUTSTANDING",
        "REMAINING",
        "STATE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.task_id.clone(),
            self.unit.clone(),
            self.account.total.to_string(),
            self.account.reported.to_string(),
            self.account.outstanding.to_string(),
            self.account.remaining.to_string(),
            self.terms.state.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::budgets::v1::Slice;

    use super::*;

    fn found() -> GetBudgetResponse {
        GetBudgetResponse {
            budget: Some(Budget {
                task_id: "q4".into(),
                unit: "tokens".into(),
                total: 100,
                window: Window::Day.into(),
                state: State::Frozen.into(),
                ..Budget::default()
            }),
            account: Some(Account {
                total: 120,
                reported: 20,
                outstanding: 30,
                suspense: 30,
                remaining: 70,
                ..Account::default()
            }),
            ..GetBudgetResponse::default()
        }
    }

    #[test]
    fn amounts_are_those_of_the_present_window() {
        let status = StatusView::from(found());
        let expected = ["q4", "tokens", "120", "20", "30", "70", "frozen"];
        assert_eq!(status.cells(), expected);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["total"], 120, "with what was carried into it");
        assert_eq!(json["total_per_window"], 100);
        assert_eq!(
            (&json["window"], &json["suspense"]),
            (&"day".into(), &30.into())
        );
    }

    #[test]
    fn a_budget_without_windows_has_one_total() {
        let budget = Budget {
            total: 100,
            ..Budget::default()
        };
        let status = StatusView::from(GetBudgetResponse {
            budget: Some(budget.clone()),
            ..GetBudgetResponse::default()
        });
        assert_eq!(
            (status.total_per_window, &*status.terms.window),
            (None, "none")
        );
        let json = serde_json::to_value(BudgetView::from(budget)).unwrap();
        assert_eq!(
            (&json["total"], &json["window"]),
            (&100.into(), &"none".into())
        );
    }

    #[test]
    fn programs_read_slices_as_a_list() {
        let shown = ShownView {
            status: &StatusView::from(found()),
            slices: &[SliceView::from(Slice {
                machine_id: "mch_7".into(),
                is_silent: true,
                ..Slice::default()
            })],
            awaited: &[],
        };
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["remaining"], 70);
        assert_eq!(json["slices"][0]["machine_id"], "mch_7");
        assert_eq!(json["slices"][0]["is_silent"], true);
    }
}
