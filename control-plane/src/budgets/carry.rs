//! What is left of a window goes into the next one, where a budget says so.

use std::collections::BTreeSet;

use authguardian_proto::ids::TaskId;
use time::OffsetDateTime;

use super::{
    Budgets,
    account::Account,
    locked::Locked,
    movement::{Kind, Movement},
    plan::Plan,
    store,
    window::Span,
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
        let left = store::left(&mut tx, task).await?;
        let oldest = left.iter().filter_map(|kept| kept.begins_at).min();
        for kept in left {
            locked.insert(kept);
        }
        let Some(plan) = locked.get_mut(task) else {
            return Ok(false);
        };
        plan.carry_over(oldest);
        locked.write(&mut tx).await?;
        self.db.commit(tx).await?;
        Ok(true)
    }
}

impl Plan {
    /// From this window on, after which all that ever began are known, each into the one after
    /// it.
    fn carry_over(&mut self, oldest: Option<OffsetDateTime>) {
        let Some(present) = self.window.map(|span| span.begins_at) else {
            return;
        };
        let mut span = oldest.and_then(|at| self.budget.terms.window.at(at));
        for _ in 0..WINDOWS {
            let Some(of) = span.filter(|span| span.begins_at < present) else {
                return;
            };
            self.carry_out_of(of);
            span = self.budget.terms.window.at(of.ends_at);
        }
    }

    fn carry_out_of(&mut self, span: Span) {
        let (from, into) = (Some(span.begins_at), Some(span.ends_at));
        let account = self.account_of(from);
        let rest = account.rest();
        if rest == 0 {
            return;
        }
        let emptied = Account {
            total: account.total - rest,
            ..account
        };
        self.carry(Kind::CarriedOut, rest, from, account, emptied);
        let account = self.account_of(into);
        let filled = Account {
            total: account.total + rest,
            ..account
        };
        self.carry(Kind::CarriedIn, rest, into, account, filled);
    }

    /// What there is in a window, which begins where it never did.
    fn account_of(&mut self, window: Option<OffsetDateTime>) -> Account {
        match self.accounts.get(&window) {
            Some(account) => *account,
            None => self.begin(window),
        }
    }

    fn carry(
        &mut self,
        kind: Kind,
        amount: u64,
        window: Option<OffsetDateTime>,
        before: Account,
        after: Account,
    ) {
        self.movements
            .push(Movement::at(kind, amount, window, None, before, after));
        self.accounts.insert(window, after);
    }
}
