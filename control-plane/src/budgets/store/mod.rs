//! All SQL of budgets, a file for each noun.

mod account;
mod budget;
mod exchange;
mod hold;
mod movement;
mod slice;

pub(super) use account::*;
use authguardian_proto::ids::TaskId;
pub(super) use budget::*;
pub(super) use exchange::*;
pub(super) use hold::*;
pub(super) use movement::*;
pub(super) use slice::*;
use time::OffsetDateTime;

use super::account::Amount;
use crate::error::{Error, Result};

/// Stands for the one window of budgets without windows.
const NO_WINDOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn window(begins_at: OffsetDateTime) -> Option<OffsetDateTime> {
    (begins_at != NO_WINDOW).then_some(begins_at)
}

fn task(text: &str) -> Result<TaskId> {
    text.parse().map_err(|_| unreadable("task_id"))
}

fn amount(number: i64) -> Amount {
    number.unsigned_abs() // constraints of the tables keep it positive
}

fn number(amount: Amount) -> Result<i64> {
    i64::try_from(amount).map_err(Error::internal)
}

fn unreadable(column: &str) -> Error {
    Error::internal(format!("unreadable value in `budget.{column}`"))
}
