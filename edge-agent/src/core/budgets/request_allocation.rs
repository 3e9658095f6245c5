//! `request_allocation`: setting aside a part of a budget.

use std::time::Duration;

use authguardian_proto::{
    ids::{AgentId, RequestId},
    reason::{Problem, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{AGENT_ID, TASK_ID, task};
use crate::core::{
    Caller, Core, Tool,
    decision::rfc3339,
    form::{Field, Form, Kind},
    request_permission::REQUEST_ID,
};

/// How long an amount is set aside where nobody says, seconds.
const DEFAULT_TTL: u32 = 300;

pub(in crate::core) const FIELDS: &[Field] = &[
    AGENT_ID,
    TASK_ID,
    Field::required(
        "tokens",
        Kind::Amount(1),
        "How much, in the budget's unit: a whole number from 1 to 9,007,199,254,740,991",
    ),
    Field::optional(
        "ttl_seconds",
        Kind::Whole(1, 86_400),
        "Seconds until it is free again by itself; default 300. What is spent has to be reported before",
    ),
    REQUEST_ID,
];

/// What was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RequestAllocationResult {
    /// How much was set aside: all that was asked for.
    pub granted: u64,
    /// Its id, `rsv_…`: name it in `report_spending`.
    pub reservation_id: String,
    /// What is left for others, as far as this machine knows.
    pub remaining: u64,
    /// What is counted, such as `tokens`.
    pub unit: String,
    /// When it is free again by itself, RFC 3339 in UTC.
    pub expires_at: Option<String>,
}

impl Core {
    pub(in crate::core) async fn request_allocation(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<RequestAllocationResult, Problem> {
        let agent = form.agent()?;
        caller.speaks_for(&agent)?;
        let allocated = self.allocate(&agent, form).await;
        allocated.inspect_err(|problem| {
            self.note_refused_here(caller, Tool::RequestAllocation, Some(&agent), problem);
        })
    }

    async fn allocate(
        &self,
        agent: &AgentId,
        form: &Form,
    ) -> Result<RequestAllocationResult, Problem> {
        let (task, tokens) = (task(form)?, form.amount("tokens", 1)?);
        let request_id: Option<RequestId> = form.parsed("request_id")?;
        let ttl = form.number("ttl_seconds").unwrap_or(DEFAULT_TTL);
        self.check_suspended(agent)?;
        let ttl = Duration::from_secs(ttl.into());
        let reserved = self
            .slices
            .reserve(agent, &task, tokens, ttl, request_id.as_ref())
            .await?;
        let left = i64::try_from(reserved.expires_in.as_secs()).unwrap_or_default();
        let expires_at = prost_types::Timestamp {
            seconds: self.unix().saturating_add(left),
            nanos: 0,
        };
        Ok(RequestAllocationResult {
            granted: reserved.granted,
            reservation_id: reserved.reservation.to_string(),
            remaining: reserved.remaining,
            unit: reserved.unit,
            expires_at: rfc3339(Some(expires_at)),
        })
    }

    /// Refuses an agent that an operator has suspended, as far as that is known here.
    fn check_suspended(&self, agent: &AgentId) -> Result<(), Problem> {
        let here = self.here.as_deref();
        if here.is_some_and(|here| here.is_suspended(agent)) {
            let detail = "an operator has suspended this agent, its machine or everything";
            return Err(Problem::new(Reason::Suspended, detail));
        }
        Ok(())
    }
}
