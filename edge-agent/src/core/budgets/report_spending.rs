//! `report_spending`: what came of what was set aside, or was spent without that.

use authguardian_proto::{
    ids::{AgentId, RequestId, ReservationId},
    reason::Problem,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, TASK_ID, task};
use crate::core::{
    Caller, Core, Tool,
    form::{Field, Form, Kind},
};

pub(in crate::core) const FIELDS: &[Field] = &[
    AGENT_ID,
    TASK_ID,
    Field::required(
        "tokens",
        Kind::Amount(0),
        "How much was spent in all, in the budget's unit: a whole number up to 9,007,199,254,740,991; 0 with a \
         reservation that nothing was spent of",
    ),
    Field::optional(
        "reservation_id",
        Kind::Reservation,
        "Which reservation it was spent from, as `request_allocation` told it; this or `request_id` is required",
    ),
    Field::optional(
        "request_id",
        Kind::Request,
        "Of spending without a reservation: your own id of it, 1 to 128 printable characters; repeating a call with \
         the same id records it once",
    ),
];

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReportSpendingResult {
    /// How much: all that was reported.
    pub recorded: u64,
    /// The part of it that was more than this machine had.
    pub overdraft: u64,
    /// What is left, as far as this machine knows.
    pub remaining: u64,
    /// What is counted, such as `tokens`.
    pub unit: String,
}

/// What spending is told by.
enum By {
    Reservation(ReservationId),
    Request(RequestId),
}

impl Core {
    /// An agent that is suspended may still tell what it has spent.
    pub(in crate::core) async fn report_spending(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<ReportSpendingResult, Problem> {
        let agent = form.agent()?;
        caller.speaks_for(&agent)?;
        let reported = self.report(&agent, form).await;
        reported.inspect_err(|problem| {
            self.note_refused_here(caller, Tool::ReportSpending, Some(&agent), problem);
        })
    }

    async fn report(&self, agent: &AgentId, form: &Form) -> Result<ReportSpendingResult, Problem> {
        let task = task(form)?;
        let settled = match by(form)? {
            By::Reservation(reservation) => {
                let tokens = form.amount("tokens", 0)?;
                self.slices
                    .settle(agent, &task, reservation, tokens)
                    .await?
            }
            By::Request(request_id) => {
                let tokens = form.amount("tokens", 1)?;
                self.slices.spend(agent, &task, &request_id, tokens).await?
            }
        };
        Ok(ReportSpendingResult {
            recorded: settled.recorded,
            overdraft: settled.overdraft,
            remaining: settled.remaining,
            unit: settled.unit,
        })
    }
}

fn by(form: &Form) -> Result<By, Problem> {
    let reservation: Option<ReservationId> = form.parsed("reservation_id")?;
    let request_id: Option<RequestId> = form.parsed("request_id")?;
    match (reservation, request_id) {
        (Some(reservation), None) => Ok(By::Reservation(reservation)),
        (None, Some(request_id)) => Ok(By::Request(request_id)),
        (None, None) => {
            let detail = "is required, or `request_id` for spending without a reservation";
            Err(Problem::invalid("reservation_id", detail))
        }
        (Some(_), Some(_)) => {
            let detail = "expected `reservation_id` or `request_id`, not both";
            Err(Problem::invalid("request_id", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(more: &Value) -> String {
        let mut arguments = json!({"agent_id": "a", "task_id": "q4", "tokens": 5});
        for (name, value) in more.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        let form = Form::read(FIELDS, arguments.as_object().unwrap().clone());
        match form.and_then(|form| by(&form).map(drop)) {
            Ok(()) => String::new(),
            Err(problem) => problem.field.unwrap(),
        }
    }

    #[test]
    fn spending_is_told_by_a_reservation_or_an_id_of_its_own() {
        const RESERVATION: &str = "rsv_0000000000000000000001";
        assert_eq!(refused(&json!({"reservation_id": RESERVATION})), "");
        assert_eq!(refused(&json!({"request_id": "r1"})), "");
        assert_eq!(refused(&json!({})), "reservation_id");
        assert_eq!(refused(&json!({"reservation_id": "x"})), "reservation_id");
        let both = json!({"reservation_id": RESERVATION, "request_id": "r1"});
        assert_eq!(refused(&both), "request_id");
    }
}
