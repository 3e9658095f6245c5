//! Budgets: amounts that agents of many machines spend from together, and never more than
//! there is.
//!
//! A machine gets a slice of a budget, spends from it by itself, and tells what it has spent.
//! All that are told are sums since the slice began, so nothing counts twice. The account of
//! a budget keeps `reported - overdraft + outstanding <= total`, in each window; every change
//! of it is a movement in its ledger, which rests on the one before it.

mod account;
mod budget;
mod carry;
mod children;
mod exchange;
mod fence;
mod hold;
mod locked;
mod manage;
mod movement;
mod news;
mod operate;
mod plan;
mod read;
mod restore;
mod sharing;
mod size;
mod store;
mod window;

pub use account::{Account, Amount, Contradiction, Slice};
pub use authguardian_proto::amount::MAX as MAX_AMOUNT;
pub use budget::{Budget, State, Terms};
pub use exchange::{Exchange, Heard, NoSlice, Told};
pub use hold::AsOf;
pub use hold::{Awaited, Hold, Memory, Recall};
pub(crate) use hold::{hold_all, lock_all};
pub use manage::NewBudget;
pub use movement::{Kind, Movement, Numbered};
pub use operate::Settled;
pub use plan::{Answer, Held, Plan, Refused, Report};
pub use read::View;
pub use size::Ask;
use time::Duration;
pub use window::{Span, Window};

use crate::{
    clock::Ambient,
    config,
    db::{Db, batch::Batcher},
    error::Result,
};

/// The budgets of one control plane.
#[derive(Debug, Clone)]
pub struct Budgets {
    db: Db,
    ambient: Ambient,
    settings: Settings,
    exchanges: Batcher<exchange::Operation>,
}

/// What is configured of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a slice may be spent from without being heard of.
    pub lease: Duration,
    /// How long movements are kept.
    pub history: Duration,
}

impl From<&config::Budgets> for Settings {
    fn from(config: &config::Budgets) -> Self {
        Self {
            lease: Duration::seconds(config.lease_seconds.into()),
            history: Duration::days(config.history_days.into()),
        }
    }
}

impl Budgets {
    /// Starts the service.
    pub fn start(db: Db, ambient: Ambient, settings: Settings) -> Self {
        let operation = exchange::Operation::new(db.clone(), ambient.clone(), settings);
        Self {
            exchanges: Batcher::spawn(operation),
            db,
            ambient,
            settings,
        }
    }

    /// Takes what a machine tells of its slices, and tells what it has: one for each
    /// report, in order, and after those what the machine did not name. Where a machine knows
    /// more than the database, that was restored from a backup: it is believed.
    ///
    /// # Errors
    /// `REVISION_CONFLICT` when a later one was taken.
    pub async fn exchange(&self, exchange: Exchange) -> Result<Heard> {
        self.exchanges.call(exchange).await
    }
}
