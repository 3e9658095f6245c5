//! Budgets, as operators make them.

use authguardian_proto::{
    agents,
    amount::MAX as MAX_AMOUNT,
    ids::{AgentId, TaskId},
    reason::{Problem, Reason},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{account::Amount, hold::Hold, window::Window};
use crate::{
    error::{Error, Result},
    identity::{Machine, Serves},
};

const MAX_OWNER: usize = 200;
const MAX_UNIT: usize = 32;

/// Percent at which it is told that so much was spent, where nothing else is said.
const THRESHOLDS: [u32; 3] = [50, 80, 100];

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// For what.
    pub task: TaskId,
    /// What operators say of it.
    pub terms: Terms,
    /// Whether it can be spent from.
    pub state: State,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When machines were last asked to give back what lies idle.
    #[serde(with = "time::serde::rfc3339::option")]
    pub recalled_at: Option<OffsetDateTime>,
    /// Closed, with a parent: what that has counted as spent of it.
    pub counted: Amount,
    /// Likewise: the rest of it is free there.
    pub is_released: bool,
    /// Since a restore of the database from a backup; `None`: there was none, or it was made
    /// later.
    #[serde(default)]
    pub hold: Option<Hold>,
}

/// What operators say of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What is counted, such as `tokens`.
    pub unit: String,
    /// What may be spent in each window, 1 to [`MAX_AMOUNT`].
    pub total: Amount,
    /// The budget that the total is taken from.
    pub parent: Option<TaskId>,
    /// For how long the total lasts.
    pub window: Window,
    /// Whether what is left at the end of a window is added to the next.
    pub carries_over: bool,
    /// Percent, growing.
    pub thresholds: Vec<u32>,
    /// For people.
    pub owner: String,
    /// Agents that may spend: their ids, or `*`.
    pub spenders: Vec<String>,
}

/// Whether a budget can be spent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Yes.
    Active,
    /// Not until it is thawed.
    Frozen,
    /// Never again.
    Closed,
}

impl State {
    /// All of them, by their stored numbers.
    pub const ALL: [Self; 3] = [Self::Active, Self::Frozen, Self::Closed];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }
}

impl Budget {
    /// Checks that it can be given from.
    ///
    /// # Errors
    /// `BUDGET_FROZEN`.
    pub(super) fn check_active(&self) -> Result<()> {
        let detail = match self.state {
            State::Active => return Ok(()),
            State::Frozen => format!("budget `{}` is frozen; `budget thaw` thaws it", self.task),
            State::Closed => format!("budget `{}` is closed", self.task),
        };
        Err(Error::new(Reason::BudgetFrozen, detail))
    }

    /// Checks that it was not closed.
    ///
    /// # Errors
    /// `BUDGET_FROZEN`.
    pub(super) fn check_open(&self) -> Result<()> {
        match self.state {
            State::Active | State::Frozen => Ok(()),
            State::Closed => self.check_active(),
        }
    }

    /// Whether nothing is given of it, since a restore.
    pub fn is_held(&self) -> bool {
        self.hold.is_some_and(|hold| hold.is_open)
    }

    /// Whether an agent may spend from it.
    pub fn lets_spend(&self, agent: &AgentId) -> bool {
        agents::lets(&self.terms.spenders, agent)
    }
}

impl Budget {
    /// Whether some agent that a machine may serve may spend from it.
    pub(super) fn is_spent_from(&self, machine: &Machine) -> bool {
        match &machine.terms.agents {
            Serves::Any => true,
            Serves::Only(agents) => agents.iter().any(|agent| self.lets_spend(agent)),
        }
    }
}

impl Terms {
    /// Fills in what was not said, and checks all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field.
    pub(super) fn checked(mut self) -> Result<Self> {
        if self.thresholds.is_empty() {
            self.thresholds = THRESHOLDS.to_vec();
        }
        if self.spenders.is_empty() {
            self.spenders = vec![agents::EVERYBODY.to_owned()];
        }
        let is_of_unit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
        if !(1..=MAX_UNIT).contains(&self.unit.len()) || !self.unit.bytes().all(is_of_unit) {
            return Err(Error::invalid(
                "budget.unit",
                format!("expected 1 to {MAX_UNIT} characters of `a-z 0-9 _ -`, such as `tokens`"),
            ));
        }
        check_amount("budget.total", self.total)?;
        let grows = self.thresholds.is_sorted_by(|one, next| one < next);
        let within = self
            .thresholds
            .iter()
            .all(|percent| (1..=100).contains(percent));
        if !grows || !within {
            return Err(Error::invalid(
                "budget.thresholds",
                "expected percents from 1 to 100, each greater than the one before",
            ));
        }
        if self.parent.is_some() && self.window != Window::None {
            return Err(Error::invalid(
                "budget.window",
                "expected none where there is a parent: what is taken from that does not end with a window",
            ));
        }
        if self.carries_over && self.window == Window::None {
            return Err(Error::invalid(
                "budget.carries_over",
                "expected false where there is no window",
            ));
        }
        if self.owner.chars().count() > MAX_OWNER || self.owner.contains('\0') {
            return Err(Error::invalid(
                "budget.owner",
                format!("expected at most {MAX_OWNER} characters, none of them NUL"),
            ));
        }
        agents::check(&self.spenders)
            .map_err(|expected| Error::invalid("budget.spenders", expected))?;
        Ok(self)
    }
}

/// Checks an amount that is to be moved.
///
/// # Errors
/// `INVALID_ARGUMENT`, naming the field.
pub(super) fn check_amount(field: &str, amount: Amount) -> Result<()> {
    if (1..=MAX_AMOUNT).contains(&amount) {
        return Ok(());
    }
    Err(Error::invalid(field, format!("expected 1 to {MAX_AMOUNT}")))
}

pub(super) fn not_found(task: &TaskId) -> Error {
    let detail = format!("there is no budget `{task}`; `budget list` shows those there are");
    Problem::new(Reason::BudgetNotFound, detail)
        .at("task_id")
        .into()
}
