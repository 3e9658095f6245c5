//! The tools: names, descriptions, arguments and results in one place.

use std::sync::LazyLock;

use authguardian_proto::{
    reason::{Code, Problem, Reason},
    zone::Zone,
};
use serde_json::{Map, Value};

use super::{
    AgentResult, BlackboardDeleteResult, BlackboardListResult, BlackboardReadResult,
    BlackboardTransactionResult, BlackboardWriteResult, BudgetStatusResult, DecisionResult,
    DiscoverAgentsResult, LockResult, ReportSpendingResult, RequestAllocationResult,
    RevokeTokenResult, ValidateTokenResult, blackboard, budgets, discover_agents,
    form::{self, Field},
    permission_status, register_agent, renew_permission, request_permission, revoke_token,
    schema_of, validate_token,
};

/// What writing to a board can fail with.
const OF_WRITING: &[Code] = &[
    Code::NotFound,
    Code::Conflict,
    Code::FailedPrecondition,
    Code::OutcomeUnknown,
];

/// A command of the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Ask for a grant.
    RequestPermission,
    /// What became of a request.
    PermissionStatus,
    /// Extend a grant.
    RenewPermission,
    /// Check a token.
    ValidateToken,
    /// End a grant.
    RevokeToken,
    /// Tell the registry of an agent.
    RegisterAgent,
    /// Take that back.
    DeregisterAgent,
    /// Show that an agent is there.
    Heartbeat,
    /// Find agents.
    DiscoverAgents,
    /// Read a key of a board.
    BlackboardRead,
    /// Write one.
    BlackboardWrite,
    /// Delete one.
    BlackboardDelete,
    /// List keys.
    BlackboardList,
    /// Compare and write several.
    BlackboardTransaction,
    /// Take a lock.
    LockAcquire,
    /// Keep it.
    LockRenew,
    /// Leave it.
    LockRelease,
    /// Set aside a part of a budget.
    RequestAllocation,
    /// Tell what was spent.
    ReportSpending,
    /// What there is of a budget.
    BudgetStatus,
}

struct Definition {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    fields: &'static [Field],
    /// Whether a call changes nothing.
    read_only: bool,
    /// Whether it may be called from beyond every configured network: what one asks
    /// for from there the policies bound to reading, and ending a grant only gives
    /// up. A tool that acts without being judged by policy, or that changes what
    /// others see, may not.
    external: bool,
    /// What it can fail with beyond what every call can.
    failures: &'static [Code],
}

impl Tool {
    /// All of them, in the order of `tools/list`.
    pub const ALL: [Self; 20] = [
        Self::RequestPermission,
        Self::PermissionStatus,
        Self::RenewPermission,
        Self::ValidateToken,
        Self::RevokeToken,
        Self::RegisterAgent,
        Self::DeregisterAgent,
        Self::Heartbeat,
        Self::DiscoverAgents,
        Self::BlackboardRead,
        Self::BlackboardWrite,
        Self::BlackboardDelete,
        Self::BlackboardList,
        Self::BlackboardTransaction,
        Self::LockAcquire,
        Self::LockRenew,
        Self::LockRelease,
        Self::RequestAllocation,
        Self::ReportSpending,
        Self::BudgetStatus,
    ];

    /// Finds a tool by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// What the audit log calls it.
    pub fn action(self) -> String {
        format!("tool.{}", self.name())
    }

    /// A few words for people.
    pub fn title(self) -> &'static str {
        self.definition().title
    }

    /// What it does, for people and models.
    pub fn description(self) -> &'static str {
        self.definition().description
    }

    /// Whether a call changes nothing.
    pub fn is_read_only(self) -> bool {
        self.definition().read_only
    }

    /// Whether a call shows that the agent of its `agent_id` is there: that it is the
    /// caller's has been checked then.
    pub(super) fn shows_life(self) -> bool {
        matches!(
            self,
            Self::RequestPermission
                | Self::RequestAllocation
                | Self::ReportSpending
                | Self::BudgetStatus
        )
    }

    /// Refuses a call from a zone that the tool is not for.
    pub(super) fn check_zone(self, zone: Zone) -> Result<(), Problem> {
        check_zone(self.definition(), zone)
    }

    /// What it can fail with beyond what every call can: form, credential, limits.
    pub fn failures(self) -> &'static [Code] {
        self.definition().failures
    }

    /// What it takes.
    pub fn fields(self) -> &'static [Field] {
        self.definition().fields
    }

    /// The JSON Schema of its arguments.
    pub fn input_schema(self) -> Map<String, Value> {
        form::schema(self.fields())
    }

    /// The JSON Schema of its result.
    pub fn output_schema(self) -> Map<String, Value> {
        static DECISION: LazyLock<Map<String, Value>> = LazyLock::new(schema_of::<DecisionResult>);
        static VALIDATION: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<ValidateTokenResult>);
        static REVOCATION: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<RevokeTokenResult>);
        static AGENT: LazyLock<Map<String, Value>> = LazyLock::new(schema_of::<AgentResult>);
        static FOUND: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<DiscoverAgentsResult>);
        static READ: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BlackboardReadResult>);
        static WRITTEN: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BlackboardWriteResult>);
        static DELETED: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BlackboardDeleteResult>);
        static LISTED: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BlackboardListResult>);
        static TRANSACTED: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BlackboardTransactionResult>);
        static LOCK: LazyLock<Map<String, Value>> = LazyLock::new(schema_of::<LockResult>);
        static ALLOCATION: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<RequestAllocationResult>);
        static SPENDING: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<ReportSpendingResult>);
        static BUDGET: LazyLock<Map<String, Value>> =
            LazyLock::new(schema_of::<BudgetStatusResult>);
        match self {
            Self::RequestPermission | Self::PermissionStatus | Self::RenewPermission => {
                DECISION.clone()
            }
            Self::ValidateToken => VALIDATION.clone(),
            Self::RevokeToken => REVOCATION.clone(),
            Self::RegisterAgent | Self::DeregisterAgent | Self::Heartbeat => AGENT.clone(),
            Self::DiscoverAgents => FOUND.clone(),
            Self::BlackboardRead => READ.clone(),
            Self::BlackboardWrite => WRITTEN.clone(),
            Self::BlackboardDelete => DELETED.clone(),
            Self::BlackboardList => LISTED.clone(),
            Self::BlackboardTransaction => TRANSACTED.clone(),
            Self::LockAcquire | Self::LockRenew | Self::LockRelease => LOCK.clone(),
            Self::RequestAllocation => ALLOCATION.clone(),
            Self::ReportSpending => SPENDING.clone(),
            Self::BudgetStatus => BUDGET.clone(),
        }
    }

    fn definition(self) -> &'static Definition {
        match self {
            Self::RequestPermission => &Definition {
                name: "request_permission",
                title: "Request permission",
                description: "Asks for a time-bound grant on a resource. The request is scored from its \
                              justification, the agent's trust and the resource's risk, and judged by policy. \
                              A granted request returns a signed token to show to the resource; a denied one \
                              says why.",
                fields: request_permission::FIELDS,
                read_only: false,
                external: true,
                failures: &[Code::NotFound, Code::Conflict, Code::OutcomeUnknown],
            },
            Self::PermissionStatus => &Definition {
                name: "permission_status",
                title: "Permission status",
                description: "Returns the decision of an earlier request and the state of its grant, with a \
                              fresh copy of the token while the grant is active.",
                fields: permission_status::FIELDS,
                read_only: true,
                external: true,
                failures: &[Code::NotFound],
            },
            Self::RenewPermission => &Definition {
                name: "renew_permission",
                title: "Renew permission",
                description: "Extends an active grant: it is judged again and, if still allowed, gets a new \
                              token with a later end, at most the resource type's maximum after first issue.",
                fields: renew_permission::FIELDS,
                read_only: false,
                external: true,
                failures: &[
                    Code::NotFound,
                    Code::FailedPrecondition,
                    Code::Conflict,
                    Code::OutcomeUnknown,
                ],
            },
            Self::ValidateToken => &Definition {
                name: "validate_token",
                title: "Validate token",
                description: "Tells whether a grant token is good right now for an agent and a resource type: \
                              signature, times, subject, resource and revocation. An invalid token is a \
                              result with a reason, not an error.",
                fields: validate_token::FIELDS,
                read_only: true,
                external: true,
                failures: &[Code::NotFound],
            },
            Self::RevokeToken => &Definition {
                name: "revoke_token",
                title: "Revoke token",
                description: "Ends the grant of a token before its time. Revoking twice succeeds.",
                fields: revoke_token::FIELDS,
                read_only: false,
                external: true,
                failures: &[Code::NotFound, Code::Conflict, Code::OutcomeUnknown],
            },
            Self::RegisterAgent
            | Self::DeregisterAgent
            | Self::Heartbeat
            | Self::DiscoverAgents => self.definition_for_agents(),
            Self::RequestAllocation | Self::ReportSpending | Self::BudgetStatus => {
                self.definition_for_budgets()
            }
            _ => self.definition_for_boards(),
        }
    }

    fn definition_for_agents(self) -> &'static Definition {
        match self {
            Self::RegisterAgent => &Definition {
                name: "register_agent",
                title: "Register agent",
                description: "Tells the registry that an agent is here, what it can do and where its MCP server \
                              is, so that agents on other machines find it. The id belongs to this machine and \
                              API key until the registration ends. Registering again replaces what was said.",
                fields: register_agent::REGISTER,
                read_only: false,
                external: false,
                failures: &[Code::Conflict, Code::OutcomeUnknown],
            },
            Self::DeregisterAgent => &Definition {
                name: "deregister_agent",
                title: "Deregister agent",
                description: "Takes an agent's registration back. Only the API key that registered it can, on the \
                              machine that it was registered through.",
                fields: register_agent::DEREGISTER,
                read_only: false,
                external: false,
                failures: &[Code::NotFound, Code::Conflict, Code::OutcomeUnknown],
            },
            Self::Heartbeat => &Definition {
                name: "heartbeat",
                title: "Heartbeat",
                description: "Shows that a registered agent is there. Without one, or another call for the agent, \
                              for longer than its `ttl_seconds` it counts as suspect, and later as gone.",
                fields: register_agent::HEARTBEAT,
                read_only: false,
                external: false,
                failures: &[Code::NotFound],
            },
            _ => &Definition {
                name: "discover_agents",
                title: "Discover agents",
                description: "Finds agents on any machine by what they can do, the best first: the live before the \
                              suspect, those of this machine before others, the trusted before the less trusted. \
                              While the control plane is away it tells what is known here, with source and age.",
                fields: discover_agents::FIELDS,
                read_only: true,
                external: true,
                failures: &[],
            },
        }
    }

    fn definition_for_budgets(self) -> &'static Definition {
        match self {
            Self::RequestAllocation => &Definition {
                name: "request_allocation",
                title: "Set aside",
                description: "Sets an amount of a task's budget aside for an agent, before it is spent. All of it or \
                              nothing: `BUDGET_EXHAUSTED` tells how much is left, `UNAVAILABLE` that this machine has \
                              too little and could get no more: try again. Report what was really spent with \
                              `report_spending` and the `reservation_id`; what nobody reports is free again after \
                              `ttl_seconds`.",
                fields: budgets::ALLOCATE,
                read_only: false,
                external: false,
                failures: &[Code::NotFound, Code::Conflict, Code::FailedPrecondition],
            },
            Self::ReportSpending => &Definition {
                name: "report_spending",
                title: "Report spending",
                description: "Tells what was really spent: of a reservation, which ends with it, or without one under \
                              a `request_id`. What is more than there was is recorded all the same, as `overdraft`: \
                              nothing can be set aside until the rest of the budget, or an operator, has covered it.",
                fields: budgets::REPORT,
                read_only: false,
                external: false,
                failures: &[Code::NotFound, Code::Conflict, Code::FailedPrecondition],
            },
            _ => &Definition {
                name: "budget_status",
                title: "Budget status",
                description: "Tells how much of a task's budget was spent, on all machines, how much they hold and how \
                              much is left. While the control plane is away it tells what is known here, with source \
                              and age.",
                fields: budgets::STATUS,
                read_only: true,
                external: true,
                failures: &[Code::NotFound],
            },
        }
    }

    fn definition_for_boards(self) -> &'static Definition {
        match self {
            Self::BlackboardRead => &Definition {
                name: "blackboard_read",
                title: "Read a key",
                description: "Reads one key of a blackboard: its value, its revision for a later `if_revision`, and who \
                              wrote it. A key that is not there is `KEY_NOT_FOUND`.",
                fields: blackboard::READ,
                read_only: true,
                external: true,
                failures: &[Code::NotFound, Code::OutOfRange],
            },
            Self::BlackboardWrite => &Definition {
                name: "blackboard_write",
                title: "Write a key",
                description: "Writes any JSON to one key of a blackboard, for other agents to read. With `if_revision` \
                              only where nobody has written in between (`REVISION_CONFLICT` otherwise: read again); \
                              with `if_lock` only while a lock is still held.",
                fields: blackboard::WRITE,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
            Self::BlackboardDelete => &Definition {
                name: "blackboard_delete",
                title: "Delete a key",
                description: "Deletes one key of a blackboard. One that is not there is no error: `deleted` tells.",
                fields: blackboard::DELETE,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
            Self::BlackboardList => &Definition {
                name: "blackboard_list",
                title: "List keys",
                description: "Lists the keys of a blackboard that begin with a prefix, with their values, in byte order \
                              of the keys; each page as it was at one revision.",
                fields: blackboard::LIST,
                read_only: true,
                external: true,
                failures: &[Code::NotFound, Code::OutOfRange],
            },
            _ => self.definition_for_strong_boards(),
        }
    }

    fn definition_for_strong_boards(self) -> &'static Definition {
        match self {
            Self::BlackboardTransaction => &Definition {
                name: "blackboard_transaction",
                title: "Transaction",
                description: "Compares keys of a strong blackboard, and does all of `then` where every comparison holds, \
                              else all of `else`: as one revision that nobody sees in part.",
                fields: blackboard::TRANSACTION,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
            Self::LockAcquire => &Definition {
                name: "lock_acquire",
                title: "Take a lock",
                description: "Takes a lock on a strong blackboard, if nobody has it: `held` tells, and `holder` who has it. \
                              It ends by itself. Name its `fencing_revision` as `if_lock` in writes, so that a write \
                              after its end is refused.",
                fields: blackboard::ACQUIRE,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
            Self::LockRenew => &Definition {
                name: "lock_renew",
                title: "Keep a lock",
                description: "Keeps a lock that the agent holds for another `ttl_seconds` from now; `held` is false where \
                              it is no longer the agent's.",
                fields: blackboard::RENEW,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
            _ => &Definition {
                name: "lock_release",
                title: "Leave a lock",
                description: "Leaves a lock that the agent holds, for the next who wants it. One that is not held is no \
                              error.",
                fields: blackboard::RELEASE,
                read_only: false,
                external: false,
                failures: OF_WRITING,
            },
        }
    }
}

fn check_zone(tool: &Definition, zone: Zone) -> Result<(), Problem> {
    if tool.external || zone > Zone::External {
        return Ok(());
    }
    let detail = format!(
        "`{}` cannot be called from outside of the trusted networks",
        tool.name
    );
    Err(Problem::new(Reason::ZoneForbids, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for tool in Tool::ALL {
            assert_eq!(Tool::parse(tool.name()), Some(tool));
        }
        assert_eq!(Tool::parse("no_such_tool"), None);
    }

    #[test]
    fn a_tool_that_is_not_for_the_outside_is_refused_there_only() {
        let inside = Definition {
            name: "lock_acquire",
            title: "",
            description: "",
            fields: &[],
            read_only: false,
            external: false,
            failures: &[],
        };
        let refused = check_zone(&inside, Zone::External).unwrap_err();
        assert_eq!(refused.reason, Reason::ZoneForbids);
        assert!(refused.detail.contains("`lock_acquire`"));
        for zone in [Zone::TrustedNetwork, Zone::LocalMachine] {
            assert!(check_zone(&inside, zone).is_ok());
        }
        let inside = [
            Tool::RegisterAgent,
            Tool::DeregisterAgent,
            Tool::Heartbeat,
            Tool::BlackboardWrite,
            Tool::BlackboardDelete,
            Tool::BlackboardTransaction,
            Tool::LockAcquire,
            Tool::LockRenew,
            Tool::LockRelease,
            Tool::RequestAllocation,
            Tool::ReportSpending,
        ];
        for tool in Tool::ALL {
            let is_refused = tool.check_zone(Zone::External).is_err();
            assert_eq!(is_refused, inside.contains(&tool), "{}", tool.name());
        }
    }

    #[test]
    fn limits_can_be_set_for_every_tool() {
        let names = Tool::ALL.map(Tool::name);
        assert_eq!(names, authguardian_proto::rate::TOOLS);
    }

    #[test]
    fn every_changing_tool_takes_a_request_id() {
        for tool in Tool::ALL {
            let takes = tool.fields().iter().any(|field| field.name == "request_id");
            assert_eq!(takes, !tool.is_read_only(), "{}", tool.name());
        }
    }

    #[test]
    fn results_have_an_object_schema_with_descriptions() {
        for tool in Tool::ALL {
            let schema = tool.output_schema();
            assert_eq!(schema["type"], "object", "{}", tool.name());
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(
                    property.get("description").is_some(),
                    "{}.{name}",
                    tool.name()
                );
            }
        }
    }
}
