//! What is left of a window goes into the next one, where a budget says so.

use std::collections::BTreeSet;

use authguardian_proto::ids::TaskId;

use super::{
    Budgets,
    account::Account,
    locked::Locked,
    movement::{Kind, Movement},
    plan::Plan,
    store,
};
use crate::error::Result;

/// Most budgets that are looked at in one activation.
const LIMIT: i64 = 100;

/// Most windows that nobody spent in which are made up for at once.
const WINDOWS: usize = 1000;

impl Budgets {
    /// Carries over what windows that have ended have left; of how many budgets.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn carry_over(&self) -> Result<u64> {
        let carrying = store::carrying(&mut *self.db.read().await?, LIMIT).await?;
        let mut carried = 0;
        for task in carrying {
            carried += u64::from(self.carry_over_of(&task).await?);
        }
        Ok(carried)
    }

    async fn carry_over_of(&self, task: &TaskId) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let tasks = BTreeSet::from([task.clone()]);
        let mut locked = Locked::lock(&mut tx, &tasks, &[], self.settings.lease).await?;
        for kept in store::left(&mut tx, task).await? {
            locked.insert(kept);
        }
        let Some(plan) = locked.get_mut(task) else {
            return Ok(false);
        };
        plan.carry_over();
        locked.write(&mut tx).await?;
        self.db.commit(tx).await?;
        Ok(true)
    }
}

impl Plan {
    /// From the oldest window on, each into the one after it.
    fn carry_over(&mut self) {
        let Some(present) = self.window else {
            return;
        };
        for _ in 0..WINDOWS {
            let ended = self
                .accounts
                .iter()
                .filter(|(begins_at, _)| **begins_at < Some(present.begins_at));
            let left = ended.filter(|(_, account)| account.rest() > 0);
            let Some((begins_at, account)) = left.map(|(at, account)| (*at, *account)).next()
            else {
                return;
            };
            let Some(span) = begins_at.and_then(|at| self.budget.terms.window.at(at)) else {
                return;
            };
            let rest = account.rest();
            let emptied = Account {
                total: account.total - rest,
                ..account
            };
            self.carry(Kind::CarriedOut, rest, begins_at, account, emptied);
            let into = Some(span.ends_at);
            let fresh = Account::new(self.budget.terms.total);
            let account = self.accounts.get(&into).copied().unwrap_or(fresh);
            let filled = Account {
                total: account.total + rest,
                ..account
            };
            self.carry(Kind::CarriedIn, rest, into, account, filled);
        }
    }

    fn carry(
        &mut self,
        kind: Kind,
        amount: u64,
        window: Option<time::OffsetDateTime>,
        before: Account,
        after: Account,
    ) {
        self.movements
            .push(Movement::at(kind, amount, window, None, before, after));
        self.accounts.insert(window, after);
    }
}
