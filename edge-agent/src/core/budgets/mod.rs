//! Budgets: what agents set aside and spend from this machine's slices, and what the control
//! plane knows of all machines.

use authguardian_proto::{
    ids::{AgentId, TaskId},
    reason::Problem,
    zone::Zone,
};

use super::{
    Caller, Core, Outcome, Tool,
    form::{Field, Form, Kind},
    note::is_refusal,
};

mod budget_status;
mod follow;
mod report_spending;
mod request_allocation;
mod spenders;
mod uri;

pub use budget_status::{BudgetMachineResult, BudgetStatusResult};
pub use follow::{BudgetFollower, BudgetSubscription};
pub use report_spending::ReportSpendingResult;
pub use request_allocation::RequestAllocationResult;
pub use uri::BudgetUri;

pub(super) use budget_status::FIELDS as STATUS;
pub(super) use report_spending::FIELDS as REPORT;
pub(super) use request_allocation::FIELDS as ALLOCATE;
pub(super) use spenders::Spenders;

const AGENT_ID: Field = Field::required(
    "agent_id",
    Kind::Agent,
    "Which agent spends; the API key must speak for it, and the budget must name it",
);

const TASK_ID: Field = Field::required("task_id", Kind::Task, "The task that the budget is for");

impl Core {
    /// Notes a refusal of which the control plane does not hear, since it was made here; what
    /// comes from beyond every configured network is noted anyway.
    fn note_refused_here(
        &self,
        caller: &Caller,
        tool: Tool,
        agent: Option<&AgentId>,
        problem: &Problem,
    ) {
        if is_refusal(problem.reason) && caller.peer.zone() != Zone::External {
            let (agent, reason) = (agent.cloned(), Some(problem.reason));
            self.note(caller, tool.action(), agent, Outcome::Refused, reason);
        }
    }
}

/// The task in the required field `task_id`.
fn task(form: &Form) -> Result<TaskId, Problem> {
    let task = form.parsed("task_id")?;
    task.ok_or_else(|| Problem::invalid("task_id", "is required"))
}
