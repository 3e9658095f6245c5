//! One event: a change of the control plane as clients are told of it.

use authguardian_proto::{
    events::v1::{Change, change::Body, grants_revoked},
    grant_token::Rev,
    ids::{AgentId, TaskId},
};
use serde_json::{Map, Value, json};

use super::{
    super::{AgentNews, BudgetNews, Target},
    id::STREAM,
    rev,
};
use crate::clock::rfc3339;

/// What kind of event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventName {
    /// A grant was given.
    GrantGranted,
    /// A grant lives longer.
    GrantRenewed,
    /// A grant was ended before its time.
    GrantRevoked,
    /// A grant's time is over.
    GrantExpired,
    /// All grants that match were ended.
    GrantsRevoked,
    /// The edge offers other tools; it has no position.
    ToolsListChanged,
    /// An agent was registered; this and what follows have no position.
    AgentRegistered,
    /// What an agent has registered is another.
    AgentUpdated,
    /// A registration was taken back.
    AgentDeregistered,
    /// An operator has ended an agent's lease.
    AgentReleased,
    /// An agent is there again.
    AgentLive,
    /// An agent was not heard for longer than usual.
    AgentSuspect,
    /// An agent's lease has ended.
    AgentGone,
    /// What operators say of an agent is another.
    AgentChanged,
    /// A budget was made; this and what follows have no position either.
    BudgetCreated,
    /// There is more of a budget.
    BudgetToppedUp,
    /// Nothing can be set aside of a budget.
    BudgetFrozen,
    /// It can again.
    BudgetThawed,
    /// A budget has ended.
    BudgetClosed,
    /// An operator has ended the slice of a machine that was silent.
    BudgetSettled,
    /// A machine that holds a part of a budget is silent.
    BudgetFenced,
    /// So much of a budget was spent.
    BudgetThreshold,
}

impl EventName {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::GrantGranted,
        Self::GrantRenewed,
        Self::GrantRevoked,
        Self::GrantExpired,
        Self::GrantsRevoked,
        Self::ToolsListChanged,
        Self::AgentRegistered,
        Self::AgentUpdated,
        Self::AgentDeregistered,
        Self::AgentReleased,
        Self::AgentLive,
        Self::AgentSuspect,
        Self::AgentGone,
        Self::AgentChanged,
        Self::BudgetCreated,
        Self::BudgetToppedUp,
        Self::BudgetFrozen,
        Self::BudgetThawed,
        Self::BudgetClosed,
        Self::BudgetSettled,
        Self::BudgetFenced,
        Self::BudgetThreshold,
    ];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GrantGranted => "grant.granted",
            Self::GrantRenewed => "grant.renewed",
            Self::GrantRevoked => "grant.revoked",
            Self::GrantExpired => "grant.expired",
            Self::GrantsRevoked => "grants.revoked",
            Self::ToolsListChanged => "tools.list_changed",
            Self::AgentRegistered => "agent.registered",
            Self::AgentUpdated => "agent.updated",
            Self::AgentDeregistered => "agent.deregistered",
            Self::AgentReleased => "agent.released",
            Self::AgentLive => "agent.live",
            Self::AgentSuspect => "agent.suspect",
            Self::AgentGone => "agent.gone",
            Self::AgentChanged => "agent.changed",
            Self::BudgetCreated => "budget.created",
            Self::BudgetToppedUp => "budget.topped_up",
            Self::BudgetFrozen => "budget.frozen",
            Self::BudgetThawed => "budget.thawed",
            Self::BudgetClosed => "budget.closed",
            Self::BudgetSettled => "budget.settled",
            Self::BudgetFenced => "budget.fenced",
            Self::BudgetThreshold => "budget.threshold",
        }
    }
}

/// Whom an event concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The holder of one grant; `None`: it cannot be told who that is.
    HolderOf(Option<AgentId>),
    /// Whoever has grants that match.
    Matching(Target),
    /// Whoever may spend from the budget of this task.
    SpendersOf(TaskId),
    /// Everybody.
    All,
}

/// Something that clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What kind.
    pub name: EventName,
    /// Where it stands; `None` for what happened at this edge only, which is not told again.
    pub position: Option<Rev>,
    /// Whom it concerns.
    pub subject: Subject,
    /// What is told of it: a JSON object in one line.
    pub data: String,
}

impl Event {
    /// Reads a change of the registry. It has no position here: a reader that
    /// comes again looks at the registry instead.
    pub(in super::super) fn of_agent(change: &Change) -> Option<Self> {
        let Some(Body::AgentChanged(body)) = &change.body else {
            return None;
        };
        let name = match AgentNews::read(&body.what) {
            AgentNews::Registered => EventName::AgentRegistered,
            AgentNews::Updated => EventName::AgentUpdated,
            AgentNews::Deregistered => EventName::AgentDeregistered,
            AgentNews::Released => EventName::AgentReleased,
            AgentNews::Live => EventName::AgentLive,
            AgentNews::Suspect => EventName::AgentSuspect,
            AgentNews::Gone => EventName::AgentGone,
            AgentNews::Other => EventName::AgentChanged,
        };
        let mut data = object(json!({ "agent_id": body.agent_id }));
        if !body.machine_id.is_empty() {
            data.insert("machine_id".to_owned(), json!(body.machine_id));
        }
        if body.epoch > 0 {
            data.insert("epoch".to_owned(), json!(body.epoch));
        }
        if let Some(time) = rfc3339(change.occurred_at) {
            data.insert("occurred_at".to_owned(), Value::String(time));
        }
        Some(Self {
            name,
            position: None,
            subject: Subject::All,
            data: Value::Object(data).to_string(),
        })
    }

    /// Reads a change of a budget. It has no position here either: a reader that
    /// comes again looks at the budget. What machines say to each other is no event.
    pub(in super::super) fn of_budget(change: &Change) -> Option<Self> {
        let Some(Body::BudgetChanged(body)) = &change.body else {
            return None;
        };
        let task_id = body.task_id.parse().ok()?;
        let mut data = object(json!({ "task_id": body.task_id }));
        let name = match BudgetNews::read(body) {
            BudgetNews::Created => EventName::BudgetCreated,
            BudgetNews::ToppedUp => EventName::BudgetToppedUp,
            BudgetNews::Frozen => EventName::BudgetFrozen,
            BudgetNews::Thawed => EventName::BudgetThawed,
            BudgetNews::Closed => EventName::BudgetClosed,
            BudgetNews::Settled => EventName::BudgetSettled,
            BudgetNews::Fenced => EventName::BudgetFenced,
            BudgetNews::Threshold(percent) => {
                data.insert("percent".to_owned(), json!(percent));
                EventName::BudgetThreshold
            }
            BudgetNews::Wanted | BudgetNews::Other => return None,
        };
        if !body.machine_id.is_empty() {
            data.insert("machine_id".to_owned(), json!(body.machine_id));
        }
        if let Some(time) = rfc3339(change.occurred_at) {
            data.insert("occurred_at".to_owned(), Value::String(time));
        }
        Some(Self {
            name,
            position: None,
            subject: Subject::SpendersOf(task_id),
            data: Value::Object(data).to_string(),
        })
    }

    /// Reads a change: its position, and the event that it is, if any. `None` for
    /// a change of another stream.
    pub(in super::super) fn read(change: &Change) -> Option<(Rev, Option<Self>)> {
        if change.stream != STREAM {
            return None;
        }
        let position = rev(change.position?);
        let told = change.body.as_ref().and_then(describe);
        let event = told.map(|(name, subject, mut data)| {
            if let Some(time) = rfc3339(change.occurred_at) {
                data.insert("occurred_at".to_owned(), Value::String(time));
            }
            Self {
                name,
                position: Some(position),
                subject,
                data: Value::Object(data).to_string(),
            }
        });
        Some((position, event))
    }
}

/// Fields have the names that they have in the resources.
fn describe(body: &Body) -> Option<(EventName, Subject, Map<String, Value>)> {
    let (name, agent, fields) = match body {
        Body::GrantIssued(body) => (
            EventName::GrantGranted,
            &body.agent_id,
            json!({
                "grant_id": body.grant_id,
                "agent_id": body.agent_id,
                "resource_type": body.resource_type,
                "expires_at": rfc3339(body.expires_at),
            }),
        ),
        Body::GrantRenewed(body) => (
            EventName::GrantRenewed,
            &body.agent_id,
            json!({
                "grant_id": body.grant_id,
                "agent_id": body.agent_id,
                "expires_at": rfc3339(body.expires_at),
            }),
        ),
        Body::GrantRevoked(body) => (
            EventName::GrantRevoked,
            &body.agent_id,
            json!({ "grant_id": body.grant_id, "agent_id": body.agent_id }),
        ),
        Body::GrantExpired(body) => (
            EventName::GrantExpired,
            &body.agent_id,
            json!({ "grant_id": body.grant_id, "agent_id": body.agent_id }),
        ),
        Body::GrantsRevoked(body) => {
            let target = Target::read(body.target.clone());
            let fields = json!({ "target": target_fields(body.target.as_ref()) });
            return Some((
                EventName::GrantsRevoked,
                Subject::Matching(target),
                object(fields),
            ));
        }
        _ => return None,
    };
    Some((name, Subject::HolderOf(agent.parse().ok()), object(fields)))
}

/// One that cannot be read is taken for all there is, as the edge itself does.
fn target_fields(target: Option<&grants_revoked::Target>) -> Value {
    use grants_revoked::Target as Pb;
    match target {
        Some(Pb::AgentId(id)) => json!({ "agent_id": id }),
        Some(Pb::MachineId(id)) => json!({ "machine_id": id }),
        Some(Pb::ResourceType(name)) => json!({ "resource_type": name }),
        Some(Pb::PolicyId(id)) => json!({ "policy_id": id }),
        Some(Pb::Everything(_)) | None => json!({ "everything": true }),
    }
}

fn object(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use authguardian_proto::{
        common::v1::Position,
        events::v1::{AgentChanged, BudgetChanged, GrantIssued, GrantsRevoked, SigningKeysChanged},
    };

    use super::*;

    fn change(stream: &str, body: Option<Body>) -> Change {
        Change {
            stream: stream.to_owned(),
            position: Some(Position {
                epoch: 2,
                revision: 7,
            }),
            occurred_at: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: 0,
            }),
            body,
        }
    }

    const AT: Rev = Rev {
        epoch: 2,
        revision: 7,
    };

    #[test]
    fn a_grant_is_told_with_the_field_names_of_the_resources() {
        let issued = GrantIssued {
            grant_id: "grt_1".into(),
            agent_id: "data_analyst".into(),
            resource_type: "SAP_API".into(),
            expires_at: Some(prost_types::Timestamp {
                seconds: 60,
                nanos: 0,
            }),
        };
        let (at, event) =
            Event::read(&change("grants", Some(Body::GrantIssued(issued)))).expect("of grants");
        let event = event.expect("an event");
        assert_eq!((at, event.position), (AT, Some(AT)));
        assert_eq!(event.name.as_str(), "grant.granted");
        let holder = Some("data_analyst".parse().expect("an id"));
        assert_eq!(event.subject, Subject::HolderOf(holder));
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(
            data,
            json!({
                "grant_id": "grt_1",
                "agent_id": "data_analyst",
                "resource_type": "SAP_API",
                "expires_at": "1970-01-01T00:01:00Z",
                "occurred_at": "1970-01-01T00:00:00Z",
            })
        );
    }

    #[test]
    fn a_predicate_names_its_target_and_one_that_cannot_be_read_is_everything() {
        use grants_revoked::Target as Pb;
        for (target, told) in [
            (
                Some(Pb::AgentId("data_analyst".into())),
                json!({ "agent_id": "data_analyst" }),
            ),
            (Some(Pb::PolicyId("p".into())), json!({ "policy_id": "p" })),
            (Some(Pb::Everything(true)), json!({ "everything": true })),
            (None, json!({ "everything": true })),
        ] {
            let revoked = GrantsRevoked {
                target,
                expires_at: None,
            };
            let read = Event::read(&change("grants", Some(Body::GrantsRevoked(revoked))));
            let event = read.and_then(|(_, event)| event).expect("an event");
            let data: Value = serde_json::from_str(&event.data).expect("JSON");
            assert_eq!(data["target"], told);
            assert!(matches!(event.subject, Subject::Matching(_)));
        }
    }

    #[test]
    fn what_happens_to_an_agent_is_told_to_everybody_without_a_position() {
        let changed = |what: &str, machine: &str, epoch| {
            let body = AgentChanged {
                agent_id: "data_analyst".into(),
                what: what.into(),
                machine_id: machine.into(),
                epoch,
            };
            let change = change("registry", Some(Body::AgentChanged(body)));
            assert_eq!(Event::read(&change), None);
            Event::of_agent(&change).expect("an event")
        };
        let event = changed("suspect", "mch_1", 5);
        assert_eq!((event.position, event.subject), (None, Subject::All));
        assert_eq!(event.name.as_str(), "agent.suspect");
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(
            data,
            json!({
                "agent_id": "data_analyst",
                "machine_id": "mch_1",
                "epoch": 5,
                "occurred_at": "1970-01-01T00:00:00Z",
            })
        );
        for what in ["put", "deleted", ""] {
            let event = changed(what, "", 0);
            assert_eq!(event.name.as_str(), "agent.changed");
            assert!(!event.data.contains("machine_id"), "{}", event.data);
        }
        assert_eq!(Event::of_agent(&change("registry", None)), None);
    }

    #[test]
    fn what_happens_to_a_budget_is_told_to_its_spenders_and_what_machines_want_to_nobody() {
        let changed = |what: &str, percent, machine: &str| {
            let body = BudgetChanged {
                task_id: "q4".into(),
                what: what.into(),
                percent,
                machine_id: machine.into(),
            };
            Event::of_budget(&change("budgets", Some(Body::BudgetChanged(body))))
        };
        let event = changed("threshold", 80, "").expect("an event");
        assert_eq!(event.name.as_str(), "budget.threshold");
        let spenders = Subject::SpendersOf("q4".parse().expect("an id"));
        assert_eq!((event.position, event.subject), (None, spenders));
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        let expected =
            json!({ "task_id": "q4", "percent": 80, "occurred_at": "1970-01-01T00:00:00Z" });
        assert_eq!(data, expected);
        let event = changed("fenced", 0, "mch_1").expect("an event");
        assert_eq!(event.name.as_str(), "budget.fenced");
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(
            (data.get("percent"), &data["machine_id"]),
            (None, &json!("mch_1"))
        );
        for unsaid in ["wanted", "painted"] {
            assert_eq!(changed(unsaid, 0, ""), None);
        }
        assert_eq!(Event::of_budget(&change("budgets", None)), None);
    }

    #[test]
    fn what_is_no_event_still_has_its_position_and_other_streams_have_none() {
        assert_eq!(Event::read(&change("grants", None)), Some((AT, None)));
        let keys = Body::SigningKeysChanged(SigningKeysChanged {});
        assert_eq!(Event::read(&change("identity", Some(keys))), None);
    }
}
