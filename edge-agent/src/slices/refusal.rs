//! What callers are told where they do not get what they asked for.

use std::io;

use authguardian_proto::{
    budgets::v1::State as BudgetState,
    ids::{AgentId, ReservationId, TaskId},
    reason::{Problem, Reason},
};

use super::{MAX_AMOUNT, ledger::Amount, terms::Terms};

/// The field that amounts are in.
const TOKENS: &str = "tokens";

/// Refuses an amount that no budget can have.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub(super) fn check_amount(amount: Amount, least: Amount) -> Result<(), Problem> {
    if (least..=MAX_AMOUNT).contains(&amount) {
        return Ok(());
    }
    let detail = format!("expected {least} to {MAX_AMOUNT}");
    Err(Problem::invalid(TOKENS, detail))
}

/// More than there can ever be.
pub(super) fn too_much() -> Problem {
    let detail = format!("expected so much that all that was spent here stays within {MAX_AMOUNT}");
    Problem::invalid(TOKENS, detail)
}

pub(super) fn too_many_tasks() -> Problem {
    let detail = "this edge knows of more tasks than it may: try again later";
    Problem::new(Reason::ResourceExhausted, detail)
}

/// Why nothing of a budget is to be had here, as the control plane told.
pub(super) fn missing(task: &TaskId, reason: Reason) -> Problem {
    match reason {
        Reason::BudgetNotFound => {
            let detail = format!("there is no budget of task `{task}`");
            Problem::new(reason, detail)
        }
        Reason::PermissionDenied => {
            let detail =
                format!("no agent may spend from the budget of task `{task}` at this machine");
            Problem::new(reason, detail)
        }
        // what this machine knows of its slice is not what the control plane does
        _ => {
            let detail = format!(
                "the control plane does not take what this machine tells of the budget of task `{task}`: an operator has to settle its slice"
            );
            Problem::new(Reason::Unavailable, detail)
        }
    }
}

pub(super) fn not_a_spender(agent: &AgentId, task: &TaskId) -> Problem {
    let detail = format!("agent `{agent}` may not spend from the budget of task `{task}`");
    Problem::new(Reason::PermissionDenied, detail)
}

pub(super) fn not_active(task: &TaskId, terms: &Terms) -> Problem {
    let what = match terms.budget.state() {
        BudgetState::Closed => "is closed",
        BudgetState::Held => {
            "is held since the database of the control plane was restored, until all machines have told what they spent of it, or an operator decides"
        }
        _ => "is frozen until an operator thaws it",
    };
    let detail = format!("the budget of task `{task}` {what}");
    Problem::new(Reason::BudgetFrozen, detail)
}

/// `remaining`: what is left; `overdraft`: what was spent beyond what there was.
pub(super) fn exhausted(
    task: &TaskId,
    remaining: Amount,
    unit: &str,
    overdraft: Amount,
) -> Problem {
    let detail = if overdraft > 0 {
        format!(
            "the budget of task `{task}` is overdrawn by {overdraft} {unit}: nothing can be set aside until that is covered"
        )
    } else {
        format!("{remaining} {unit} remain of the budget of task `{task}`")
    };
    Problem::new(Reason::BudgetExhausted, detail)
}

pub(super) fn lease_expired(task: &TaskId) -> Problem {
    let detail = format!(
        "this machine's lease on the budget of task `{task}` has ended, and the control plane cannot be reached: try again later"
    );
    Problem::new(Reason::LeaseExpired, detail)
}

pub(super) fn away(task: &TaskId) -> Problem {
    let detail = format!(
        "this machine holds nothing of the budget of task `{task}`, and the control plane cannot be reached: try again later"
    );
    Problem::new(Reason::Unavailable, detail)
}

/// `free`: what can be set aside here, of a budget that may have more.
pub(super) fn short(task: &TaskId, free: Amount, unit: &str) -> Problem {
    let detail = format!(
        "this machine has {free} {unit} of the budget of task `{task}` to set aside, and no more has come in time: try again later"
    );
    Problem::new(Reason::Unavailable, detail)
}

pub(super) fn unheard(task: &TaskId) -> Problem {
    let detail = format!(
        "it is not known here who may spend from the budget of task `{task}`, and the control plane cannot be reached: try again later"
    );
    Problem::new(Reason::Unavailable, detail)
}

pub(super) fn stopping() -> Problem {
    Problem::new(Reason::Unavailable, "this edge is stopping")
}

pub(super) fn not_reserved(reservation: ReservationId, task: &TaskId) -> Problem {
    let detail = format!("this agent has no reservation `{reservation}` of task `{task}`");
    Problem::new(Reason::ReservationNotFound, detail)
}

pub(super) fn already_settled(reservation: ReservationId) -> Problem {
    let detail = format!("reservation `{reservation}` is settled already");
    Problem::new(Reason::AlreadySettled, detail)
}

pub(super) fn released(reservation: ReservationId) -> Problem {
    let detail = format!(
        "reservation `{reservation}` was not settled in time and is released: report what was spent with a request_id instead"
    );
    Problem::new(Reason::LeaseExpired, detail)
}

pub(super) fn reused() -> Problem {
    let detail = "this request id was used for another request: expected a new one";
    Problem::new(Reason::RequestIdReused, detail).at("request_id")
}

/// The disk did not take it, and nothing was done.
#[expect(clippy::needless_pass_by_value, reason = "maps errors")]
pub(super) fn unwritten(error: io::Error) -> Problem {
    tracing::warn!(%error, "the journal of budgets cannot be written");
    let detail = "the journal of budgets cannot be written on this machine: nothing was done";
    Problem::new(Reason::Unavailable, detail)
}
