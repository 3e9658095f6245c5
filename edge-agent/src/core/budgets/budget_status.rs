//! `budget_status`: what there is of a budget, by the control plane; while that is away, by
//! what this machine was told last.

use std::time::Duration;

use authguardian_proto::{
    agents,
    budgets::v1::{Account, Budget, GetBudgetRequest, GetBudgetResponse, Slice, State, Window},
    ids::{AgentId, TaskId},
    reason::{Problem, Reason},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{TASK_ID, task};
use crate::core::{
    Caller, Core, Tool,
    decision::{not_understood, rfc3339},
    form::{Field, Form, Kind},
};

pub(in crate::core) const FIELDS: &[Field] = &[
    TASK_ID,
    Field::optional(
        "agent_id",
        Kind::Agent,
        "As which agent, where the API key speaks for several; default any of them that may spend",
    ),
];

/// A budget, and what there is of it in the present window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetStatusResult {
    /// The task that it is for.
    pub task_id: String,
    /// What is counted, such as `tokens`.
    pub unit: String,
    /// `active`, `frozen` (nothing can be set aside), `held` (neither, since the control plane's
    /// database was restored, until all machines have told what they spent) or `closed`.
    pub state: &'static str,
    /// What may be spent, in this window.
    pub total: u64,
    /// What machines have told that they spent.
    pub reported: u64,
    /// The part of it that was more than they had.
    pub overdraft: u64,
    /// What machines and budgets below this one hold and have not told of.
    pub outstanding: u64,
    /// The part of it that silent machines hold: counted as spent until they are heard, or an operator settles.
    pub suspense: u64,
    /// What can still be given to machines.
    pub remaining: u64,
    /// For how long the total lasts: `none` (for ever), `minute`, `hour`, `day` or `month`, in UTC.
    pub window: &'static str,
    /// When the window ends, RFC 3339; missing: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ends_at: Option<String>,
    /// What machines hold; only this one where `source` is `edge`.
    pub machines: Vec<BudgetMachineResult>,
    /// Who says so: `control_plane`, or `edge` while that is away.
    pub source: &'static str,
    /// How old that is, milliseconds.
    pub age_ms: u64,
}

/// What one machine holds of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BudgetMachineResult {
    /// Which, `mch_…`.
    pub machine_id: String,
    /// Which of its slices, from 1.
    pub epoch: u64,
    /// All that it was given.
    pub granted: u64,
    /// All that it has given back.
    pub returned: u64,
    /// All that it has told that it spent.
    pub reported: u64,
    /// What agents have set aside there.
    pub reserved: u64,
    /// Until when it may be spent from, RFC 3339 in UTC; missing: not any more, or only the control plane knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<String>,
    /// Whether it was not heard in time.
    pub is_silent: bool,
}

/// Who says what there is.
struct Source {
    name: &'static str,
    age: Duration,
}

impl Core {
    pub(in crate::core) async fn budget_status(
        &self,
        caller: &Caller,
        form: &Form,
    ) -> Result<BudgetStatusResult, Problem> {
        let agent: Option<AgentId> = form.parsed("agent_id")?;
        if let Some(agent) = &agent {
            caller.speaks_for(agent)?;
        }
        self.status_of(caller, &task(form)?, agent.as_ref()).await
    }

    /// A budget as one of the caller's agents may see it, or as this one.
    pub(in crate::core) async fn status_of(
        &self,
        caller: &Caller,
        task: &TaskId,
        agent: Option<&AgentId>,
    ) -> Result<BudgetStatusResult, Problem> {
        let begun = self.ambient.clock.since_boot();
        let request = GetBudgetRequest {
            task_id: task.to_string(),
        };
        let asked = self.upstream.get_budget_soon(caller.login(), request).await;
        let (answer, name) = match asked {
            Ok(answer) => (answer, "control_plane"),
            Err(problem) if problem.reason == Reason::Unavailable => {
                return self
                    .status_here(caller, task, agent)
                    .unwrap_or(Err(problem));
            }
            Err(problem) => return Err(problem),
        };
        let budget = answer.budget.as_ref().ok_or_else(not_understood)?;
        self.spenders.take(task, &budget.spenders);
        self.check_spender(caller, task, &budget.spenders, agent)?;
        let age = self.ambient.clock.since_boot().saturating_sub(begun);
        BudgetStatusResult::read(answer, &Source { name, age })
    }

    /// What is known here; `None`: nothing.
    fn status_here(
        &self,
        caller: &Caller,
        task: &TaskId,
        agent: Option<&AgentId>,
    ) -> Option<Result<BudgetStatusResult, Problem>> {
        let known = self.slices.known(task)?;
        if let Err(problem) = self.check_spender(caller, task, &known.budget.spenders, agent) {
            return Some(Err(problem));
        }
        let source = Source {
            name: "edge",
            age: known.age,
        };
        let own = known.slice.map(|slice| Slice {
            machine_id: self.machine_id.to_string(),
            epoch: slice.epoch,
            granted: slice.granted,
            returned: slice.returned,
            reported: slice.spent,
            reserved: slice.reserved,
            ..Slice::default()
        });
        let answer = GetBudgetResponse {
            budget: Some(known.budget),
            account: Some(known.account),
            slices: own.into_iter().collect(),
            ..GetBudgetResponse::default()
        };
        Some(BudgetStatusResult::read(answer, &source))
    }

    /// Refuses an agent that may not spend from a budget, or a caller of whose agents none
    /// may.
    fn check_spender(
        &self,
        caller: &Caller,
        task: &TaskId,
        spenders: &[String],
        agent: Option<&AgentId>,
    ) -> Result<(), Problem> {
        let session = caller.session();
        let mut any = session.agent_ids.iter();
        let may_spend = match agent {
            Some(agent) => agents::lets(spenders, agent),
            None => any.any(|agent| agents::lets(spenders, agent)),
        };
        if may_spend {
            return Ok(());
        }
        let who = match agent {
            Some(agent) => format!("agent `{agent}` may not"),
            None => "no agent of this API key may".to_owned(),
        };
        let detail = format!("{who} spend from budget `{task}`");
        let problem = Problem::new(Reason::PermissionDenied, detail);
        self.note_refused_here(caller, Tool::BudgetStatus, agent, &problem);
        Err(problem)
    }
}

impl BudgetStatusResult {
    fn read(answer: GetBudgetResponse, source: &Source) -> Result<Self, Problem> {
        let (Some(budget), Some(account)) = (answer.budget, answer.account) else {
            return Err(not_understood());
        };
        let (state, window) = (state(&budget)?, window(&budget));
        let present = answer.slices.into_iter().filter(|slice| !slice.is_closed);
        let Account {
            window_ends,
            total,
            reported,
            overdraft,
            outstanding,
            suspense,
            remaining,
            ..
        } = account;
        Ok(Self {
            task_id: budget.task_id,
            unit: budget.unit,
            state,
            total,
            reported,
            overdraft,
            outstanding,
            suspense,
            remaining,
            window,
            window_ends_at: rfc3339(window_ends),
            machines: present.map(BudgetMachineResult::from).collect(),
            source: source.name,
            age_ms: u64::try_from(source.age.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl From<Slice> for BudgetMachineResult {
    fn from(slice: Slice) -> Self {
        Self {
            machine_id: slice.machine_id,
            epoch: slice.epoch,
            granted: slice.granted,
            returned: slice.returned,
            reported: slice.reported,
            reserved: slice.reserved,
            leased_until: rfc3339(slice.leased_until),
            is_silent: slice.is_silent,
        }
    }
}

fn state(budget: &Budget) -> Result<&'static str, Problem> {
    match budget.state() {
        State::Active => Ok("active"),
        State::Frozen => Ok("frozen"),
        State::Closed => Ok("closed"),
        State::Held => Ok("held"),
        State::Unspecified => Err(not_understood()),
    }
}

fn window(budget: &Budget) -> &'static str {
    match budget.window() {
        Window::Unspecified | Window::None => "none",
        Window::Minute => "minute",
        Window::Hour => "hour",
        Window::Day => "day",
        Window::Month => "month",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> prost_types::Timestamp {
        prost_types::Timestamp { seconds, nanos: 0 }
    }

    #[test]
    fn a_budget_reads_as_documented() {
        let slice = |machine: &str, is_closed| Slice {
            machine_id: machine.into(),
            epoch: 2,
            granted: 40,
            returned: 5,
            reported: 20,
            reserved: 3,
            leased_until: Some(at(30)),
            is_closed,
            ..Slice::default()
        };
        let answer = GetBudgetResponse {
            budget: Some(Budget {
                task_id: "q4".into(),
                unit: "tokens".into(),
                window: Window::Minute.into(),
                state: State::Active.into(),
                ..Budget::default()
            }),
            account: Some(Account {
                window_ends: Some(at(60)),
                total: 100,
                reported: 20,
                outstanding: 15,
                remaining: 65,
                ..Account::default()
            }),
            slices: vec![slice("mch_1", false), slice("mch_2", true)],
            ..GetBudgetResponse::default()
        };
        let source = Source {
            name: "control_plane",
            age: Duration::from_millis(7),
        };
        let result = BudgetStatusResult::read(answer, &source).unwrap();
        assert_eq!(
            serde_json::to_value(result).unwrap(),
            json!({
                "task_id": "q4",
                "unit": "tokens",
                "state": "active",
                "total": 100,
                "reported": 20,
                "overdraft": 0,
                "outstanding": 15,
                "suspense": 0,
                "remaining": 65,
                "window": "minute",
                "window_ends_at": "1970-01-01T00:01:00Z",
                "machines": [{
                    "machine_id": "mch_1",
                    "epoch": 2,
                    "granted": 40,
                    "returned": 5,
                    "reported": 20,
                    "reserved": 3,
                    "leased_until": "1970-01-01T00:00:30Z",
                    "is_silent": false,
                }],
                "source": "control_plane",
                "age_ms": 7,
            })
        );
    }

    #[test]
    fn an_answer_in_an_unknown_state_is_an_error() {
        let source = Source {
            name: "control_plane",
            age: Duration::ZERO,
        };
        let answer = GetBudgetResponse {
            budget: Some(Budget::default()),
            account: Some(Account::default()),
            ..GetBudgetResponse::default()
        };
        let read = BudgetStatusResult::read(answer, &source);
        assert_eq!(read.unwrap_err().reason, Reason::Internal);
        let read = BudgetStatusResult::read(GetBudgetResponse::default(), &source);
        assert_eq!(read.unwrap_err().reason, Reason::Internal);
    }
}
