//! What is known here of a budget.

use std::time::Duration;

use authguardian_proto::budgets::v1::{Account, Budget};

use super::{ledger::Amount, purse::State};

/// What is known here of a budget.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// It, as it was told last.
    pub budget: Budget,
    /// What there was of it then.
    pub account: Account,
    /// How old that is.
    pub age: Duration,
    /// What this machine holds of it; `None`: nothing.
    pub slice: Option<OwnSlice>,
    /// Whether it may be spent from now.
    pub is_leased: bool,
}

/// What this machine holds of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnSlice {
    /// Which of the machine's slices.
    pub epoch: u64,
    /// All that it was given.
    pub granted: Amount,
    /// All that it has given back.
    pub returned: Amount,
    /// All that was spent of it.
    pub spent: Amount,
    /// What is set aside.
    pub reserved: Amount,
    /// What can be set aside.
    pub free: Amount,
}

impl Known {
    /// `None`: nothing was told since this process began, or there is no such budget.
    pub(super) fn read(state: &State, now: Duration) -> Option<Self> {
        let terms = state.terms.as_ref().filter(|_| state.missing.is_none())?;
        let slice = state.holding.present().map(|kept| OwnSlice {
            epoch: kept.epoch,
            granted: kept.report.granted,
            returned: kept.report.returned,
            spent: kept.report.spent,
            reserved: kept.report.reserved,
            free: state.holding.free(),
        });
        Some(Self {
            budget: terms.budget.clone(),
            account: terms.account,
            age: now.saturating_sub(terms.asked_at),
            slice,
            is_leased: state.holding.leased(now).is_some(),
        })
    }
}
