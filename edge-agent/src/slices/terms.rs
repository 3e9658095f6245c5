//! What the control plane told last of a budget.

use std::{collections::HashSet, time::Duration};

use authguardian_proto::{
    agents::EVERYBODY,
    budgets::v1::{Account, Budget, State},
    ids::AgentId,
};

use super::ledger::Amount;

/// A budget, as it was told.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) budget: Budget,
    pub(super) account: Account,
    /// Since boot: when it was asked for.
    pub(super) asked_at: Duration,
    spenders: HashSet<String>,
    /// What other machines, or budgets below, hold and have not told of.
    elsewhere: Amount,
}

impl Terms {
    /// `held`: what this machine holds of it and has not told of.
    pub(super) fn new(budget: Budget, account: Account, held: Amount, asked_at: Duration) -> Self {
        Self {
            spenders: budget.spenders.iter().cloned().collect(),
            elsewhere: account.outstanding.saturating_sub(held),
            budget,
            account,
            asked_at,
        }
    }

    /// A later word.
    pub(super) fn renew(
        &mut self,
        budget: Budget,
        account: Account,
        held: Amount,
        asked_at: Duration,
    ) {
        if self.budget.spenders == budget.spenders {
            self.elsewhere = account.outstanding.saturating_sub(held);
            (self.budget, self.account, self.asked_at) = (budget, account, asked_at);
        } else {
            *self = Self::new(budget, account, held, asked_at);
        }
    }

    /// Whether an agent may spend from it.
    pub(super) fn lets(&self, agent: &AgentId) -> bool {
        self.spenders.contains(agent.as_str()) || self.spenders.contains(EVERYBODY)
    }

    pub(super) fn is_active(&self) -> bool {
        self.budget.state() == State::Active
    }

    /// Most that can come to this machine, were all others to give back what they hold.
    pub(super) fn obtainable(&self) -> Amount {
        self.account.remaining.saturating_add(self.elsewhere)
    }

    /// What is told at once where it is another.
    pub(super) fn news(&self) -> impl PartialEq + use<> {
        let Account {
            window_begins,
            total,
            overdraft,
            ..
        } = self.account;
        let is_overdrawn = overdraft > 0;
        let thresholds = self.thresholds();
        (
            self.budget.state,
            window_begins,
            total,
            is_overdrawn,
            thresholds,
        )
    }

    /// How many of its thresholds are reached.
    fn thresholds(&self) -> usize {
        let (spent, total) = (self.account.reported, self.account.total);
        let is_reached =
            |percent: u32| u128::from(spent) * 100 >= u128::from(total) * u128::from(percent);
        let all = self.budget.thresholds.iter();
        all.filter(|percent| is_reached(**percent)).count()
    }
}
