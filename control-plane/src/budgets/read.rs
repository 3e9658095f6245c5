//! Looking at budgets.

use std::collections::BTreeSet;

use authguardian_proto::{ids::TaskId, reason::Reason};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{
    Budgets,
    account::{Account, Amount},
    budget::{Budget, not_found},
    hold::Awaited,
    movement::Numbered,
    plan::Held,
    store,
    window::{Span, Window},
};
use crate::{
    error::{Error, Result},
    events::{self, Position, Stream},
    identity::Session,
};

/// A budget as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// It.
    pub budget: Budget,
    /// The present window.
    pub window: Option<Span>,
    /// What there is of it.
    pub account: Account,
    /// By machine, at most a thousand: what is open first, of earlier windows too, and then what
    /// was open last.
    pub slices: Vec<Held>,
    /// As of when, in the stream `budgets`.
    pub position: Option<Position>,
    /// Machines that it is held for, at most a thousand; none in a list.
    pub awaited: Vec<Awaited>,
}

impl View {
    /// What silent machines hold of the present window.
    pub fn suspense(&self) -> Amount {
        let window = self.window.map(|span| span.begins_at);
        let silent = self
            .slices
            .iter()
            .filter(|held| held.is_silent && held.window == window);
        silent.map(|held| held.slice.outstanding()).sum()
    }
}

impl Budgets {
    /// One budget, as an operator sees it.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`.
    pub async fn get(&self, task: &TaskId) -> Result<View> {
        let mut tx = self.db.begin_read().await?;
        let view = view(&mut tx, task).await?;
        self.db.end_proved(tx).await?;
        Ok(view)
    }

    /// One budget, as the agents of a session see it.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`; `PERMISSION_DENIED` where none of them may spend from it.
    pub async fn get_as(&self, session: &Session, task: &TaskId) -> Result<View> {
        let view = self.get(task).await?;
        if session
            .agents
            .iter()
            .any(|agent| view.budget.lets_spend(agent))
        {
            return Ok(view);
        }
        let detail = format!("no agent of this API key may spend from budget `{task}`");
        Err(Error::new(Reason::PermissionDenied, detail))
    }

    /// Budgets by task, after one (`None`: from the first), without what single machines have.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(&self, after: Option<&TaskId>, limit: i64) -> Result<Vec<View>> {
        let mut connection = self.db.read().await?;
        let budgets = store::list(&mut connection, after, limit).await?;
        let tasks: Vec<String> = budgets
            .iter()
            .map(|(budget, _)| budget.task.to_string())
            .collect();
        let accounts = store::accounts(&mut connection, &tasks, BTreeSet::new()).await?;
        let open = store::slices(&mut connection, &tasks, &[]).await?;
        Ok(budgets
            .into_iter()
            .map(|(budget, now)| {
                let window = budget.terms.window.at(now);
                let begins_at = window.map(|span| span.begins_at);
                let mut of = accounts.iter().filter(|kept| kept.task == budget.task);
                let kept = of.find(|kept| kept.begins_at == begins_at);
                let slices = open.iter().filter(|(task, _)| *task == budget.task);
                View {
                    window,
                    account: kept.map_or(Account::new(budget.terms.total), |kept| kept.account),
                    slices: slices.map(|(_, held)| *held).collect(),
                    position: None,
                    awaited: Vec::new(),
                    budget,
                }
            })
            .collect())
    }

    /// Movements of a budget, the newest first, before one of a window; and its kind of
    /// windows.
    ///
    /// # Errors
    /// `BUDGET_NOT_FOUND`.
    pub async fn movements(
        &self,
        task: &TaskId,
        before: Option<(Option<OffsetDateTime>, i64)>,
        limit: i64,
    ) -> Result<(Window, Vec<Numbered>)> {
        let mut connection = self.db.read().await?;
        let found = store::read(&mut connection, task).await?;
        let (budget, _) = found.ok_or_else(|| not_found(task))?;
        let movements = store::movements(&mut connection, task, before, limit).await?;
        Ok((budget.terms.window, movements))
    }
}

async fn view(connection: &mut PgConnection, task: &TaskId) -> Result<View> {
    let heads = events::heads(connection).await?;
    let position = heads
        .into_iter()
        .find(|(stream, _)| *stream == Stream::Budgets);
    let found = store::read(connection, task).await?;
    let (budget, now) = found.ok_or_else(|| not_found(task))?;
    let window = budget.terms.window.at(now);
    let begins_at = window.map(|span| span.begins_at);
    let accounts = store::accounts(connection, &[task.to_string()], BTreeSet::new()).await?;
    let kept = accounts.iter().find(|kept| kept.begins_at == begins_at);
    let awaited = if budget.is_held() {
        store::awaited(connection, task).await?
    } else {
        Vec::new()
    };
    Ok(View {
        awaited,
        window,
        account: kept.map_or(Account::new(budget.terms.total), |kept| kept.account),
        slices: store::slices_of(connection, task, begins_at).await?,
        position: position.map(|(_, position)| position),
        budget,
    })
}
