//! Subscriptions to what a URI names of boards and budgets.

use authguardian_proto::reason::Problem;

use super::{BoardSubscription, BudgetSubscription, Caller, Core, Readable};

/// A subscription to a key, to all keys of a board, or to a budget.
pub enum Subscription {
    /// To something of a board.
    Board(BoardSubscription),
    /// To a budget.
    Budget(Box<BudgetSubscription>),
}

impl Subscription {
    /// Waits for a change, or several; `false`: there are no more.
    pub async fn changed(&mut self) -> bool {
        match self {
            Self::Board(board) => board.changed().await,
            Self::Budget(budget) => budget.changed().await,
        }
    }
}

impl Core {
    /// Subscribes a caller to what a URI names, from this moment on; it counts as one call.
    /// `None` for what [`Core::watch`] tells of.
    ///
    /// # Errors
    /// `RATE_LIMITED`; that there is no such thing for the caller, and what else the control
    /// plane refuses; `UNAVAILABLE`.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        what: &Readable,
    ) -> Result<Option<Subscription>, Problem> {
        Ok(match what {
            Readable::Resource(_) => None,
            Readable::Board(uri) => {
                let board = self.subscribe_to_board(caller, uri).await?;
                Some(Subscription::Board(board))
            }
            Readable::Budget(uri) => {
                let budget = self.subscribe_to_budget(caller, uri).await?;
                Some(Subscription::Budget(Box::new(budget)))
            }
        })
    }
}
