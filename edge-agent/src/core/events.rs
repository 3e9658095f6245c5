//! Telling a caller what happens to its grants, as events with positions, and to agents and
//! its budgets.

use authguardian_proto::{ids::AgentId, reason::Problem};
use futures::Stream;

use super::{Caller, Core, Interest, Spenders};
use crate::upstream::{Event, EventId, EventName, Heard, Subject};

/// What of the events a caller wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsWanted {
    /// Only of these kinds; none: of all.
    pub names: Vec<EventName>,
    /// Only what concerns this agent.
    pub agent_id: Option<AgentId>,
    /// Only what came after this; `None`: from now on.
    pub after: Option<EventId>,
}

const ACTION: &str = "event.watch";

impl Core {
    /// Begins to tell a caller of events; it counts as one call.
    ///
    /// # Errors
    /// `RATE_LIMITED`; `AGENT_MISMATCH` for an agent that the caller does not
    /// speak for.
    pub async fn events(
        &self,
        caller: &Caller,
        wanted: EventsWanted,
    ) -> Result<impl Stream<Item = Heard> + Send + use<>, Problem> {
        self.admit(caller, None, || ACTION.to_owned()).await?;
        let interest = interest(caller, wanted.agent_id.as_ref());
        let problem = interest.as_ref().err();
        self.note_outcome(
            caller,
            || ACTION.to_owned(),
            || wanted.agent_id.clone(),
            problem,
        );
        let (interest, names) = (interest?, wanted.names);
        let spenders = self.spenders.clone();
        Ok(self.upstream.events(wanted.after, move |event| {
            is_wanted(event, &names) && concerns(&interest, &spenders, event)
        }))
    }
}

fn interest(caller: &Caller, agent: Option<&AgentId>) -> Result<Interest, Problem> {
    match agent {
        None => Ok(Interest::new(caller.session().agent_ids.clone())),
        Some(agent) => {
            caller.speaks_for(agent)?;
            Ok(Interest::new([agent.clone()].into()))
        }
    }
}

fn is_wanted(event: &Event, names: &[EventName]) -> bool {
    names.is_empty() || names.contains(&event.name)
}

fn concerns(interest: &Interest, spenders: &Spenders, event: &Event) -> bool {
    match &event.subject {
        Subject::HolderOf(agent) => interest.is_in_grant_of(agent.as_ref()),
        Subject::Matching(target) => interest.is_in_matching(target),
        Subject::SpendersOf(task) => interest.is_in_budget_of(task, spenders),
        Subject::All => true,
    }
}
