//! A control plane that gives what is asked for, so that nothing but the edge is measured.

use std::collections::HashMap;

use authguardian_proto::budgets::v1::{
    Account, Budget, ExchangeRequest, ExchangeResponse, SliceAnswer, SliceReport, State,
};
use edge_agent::slices::MAX_AMOUNT;

/// As the control plane's own are, where nothing else is configured.
const LEASE_MS: u32 = 30_000;

/// What was given, by task.
#[derive(Debug, Default)]
pub(super) struct Desk(HashMap<String, u64>);

impl Desk {
    /// Answers for every slice.
    pub(super) fn answer(&mut self, request: &ExchangeRequest) -> ExchangeResponse {
        let slices = request.slices.iter().map(|report| self.hear(report));
        ExchangeResponse {
            slices: slices.collect(),
            ..ExchangeResponse::default()
        }
    }

    fn hear(&mut self, report: &SliceReport) -> SliceAnswer {
        let granted = self.0.entry(report.task_id.clone()).or_default();
        *granted += report.wanted.max(report.needed);
        let outstanding = granted.saturating_sub(report.spent + report.returned);
        SliceAnswer {
            budget: Some(Budget {
                task_id: report.task_id.clone(),
                unit: "tokens".to_owned(),
                total: MAX_AMOUNT,
                thresholds: vec![50, 80, 100],
                spenders: vec!["*".to_owned()],
                state: State::Active.into(),
                ..Budget::default()
            }),
            account: Some(Account {
                total: MAX_AMOUNT,
                reported: report.spent,
                outstanding,
                remaining: MAX_AMOUNT.saturating_sub(report.spent + outstanding),
                ..Account::default()
            }),
            epoch: 1,
            granted: *granted,
            reported: report.spent,
            returned: report.returned,
            lease_ms: LEASE_MS,
            again_ms: LEASE_MS / 2,
            ..SliceAnswer::default()
        }
    }
}
