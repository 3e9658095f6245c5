//! Budgets that are taken from others: once one is closed and nobody holds anything of it,
//! its parent counts what was spent of it, and has the rest again.

use authguardian_proto::ids::TaskId;
use std::collections::BTreeSet;

use super::{
    Budgets,
    account::{Account, Slice},
    budget::State,
    locked::{self, Locked},
    movement::Kind,
    store,
};
use crate::{
    audit,
    error::{Error, Result},
    events::{self, Stream},
};

/// Most that are counted in one activation.
const LIMIT: i64 = 100;

impl Budgets {
    /// Has parents count what closed budgets below them have come to; how many.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn count_children(&self) -> Result<u64> {
        let uncounted = store::uncounted(&mut *self.db.read().await?, LIMIT).await?;
        let mut counted = 0;
        for (child, parent) in uncounted {
            let mut tx = self.db.begin().await?;
            let tasks = BTreeSet::from([child.clone(), parent]);
            let mut locked = Locked::lock(&mut tx, &tasks, &[], self.settings.lease).await?;
            count(&mut locked, &child)?;
            let reached = locked.write(&mut tx).await?;
            let (changes, entries) = locked::told(&reached);
            let now = self.ambient.clock.now();
            audit::append(&mut tx, now, &entries).await?;
            events::append(&mut tx, Stream::Budgets, now, &changes).await?;
            self.db.commit(tx).await?;
            counted += 1;
        }
        Ok(counted)
    }
}

/// Counts a closed budget at its parent, where both are locked.
pub(super) fn count(locked: &mut Locked, child: &TaskId) -> Result<()> {
    let Some(plan) = locked.get_mut(child) else {
        return Ok(());
    };
    let (budget, account) = (plan.budget.clone(), plan.present_account());
    let Some(parent) = budget.terms.parent.clone() else {
        return Ok(());
    };
    let is_ended = budget.state == State::Closed && account.outstanding == 0 && !budget.is_held();
    if !is_ended || budget.is_released && budget.counted == account.reported {
        return Ok(());
    }
    let before = Slice {
        granted: account.total,
        returned: if budget.is_released {
            account.total.saturating_sub(budget.counted)
        } else {
            0
        },
        reported: budget.counted,
        is_closed: budget.is_released,
    };
    if let Some(plan) = locked.get_mut(&parent) {
        let mut slice = before;
        let mut now: Account = plan.present_account();
        now.hear(&mut slice, before.returned, account.reported)
            .map_err(Error::internal)?;
        let spent = slice.reported - before.reported;
        if spent > 0 {
            plan.set_present(Kind::ChildSpent, spent, Some(child.clone()), now);
        }
        if !budget.is_released {
            let released = slice.outstanding();
            now.settle(&mut slice);
            plan.set_present(Kind::ChildClosed, released, Some(child.clone()), now);
        }
    }
    if let Some(plan) = locked.get_mut(child) {
        plan.budget.counted = account.reported;
        plan.budget.is_released = true;
    }
    Ok(())
}
