//! The stream of events, as an operation.

use authguardian_proto::{
    ids::{AgentId, BoardName},
    reason::Code,
};
use serde_json::{Value, json};

use super::operation::{Access, Operation};
use crate::core::{BoardEventId, BoardEventName, EventId, EventName};

const DESCRIPTION: &str = "Server-sent events: each has a name, JSON `data` and, where the stream can be resumed after it, \
    an `id`. Comes again with the last `id` as `Last-Event-ID`, which a browser does by itself. `COMPACTED` and `LAGGED` \
    are events too: they tell that events were missed, and from where to go on. Events of agents and of budgets have no `id`; those of \
    budgets are told to whoever may spend from them, as far as this edge knows. With `board` they are of that board \
    instead: `blackboard.put`, `blackboard.deleted` and `blackboard.expired`, with what `blackboard_read` tells of the \
    key; only the last of a revision has an `id`.";

/// `GET /events`.
pub(super) fn watch() -> Operation {
    let answer = json!({
        "description": "The events, until the client leaves or its credential ends.",
        "content": { "text/event-stream": { "schema": { "type": "string" } } },
    });
    Operation {
        tag: "events",
        summary: "Follow what happens to the caller's grants and budgets, or on a board".to_owned(),
        description: DESCRIPTION.to_owned(),
        access: Access::Stream,
        parameters: vec![
            json!({
                "name": "events",
                "in": "query",
                "description": "Only these; `grant.*` stands for all that begin so",
                "style": "form",
                "explode": false,
                "schema": { "type": "array", "minItems": 1, "items": { "enum": filters() } },
            }),
            json!({
                "name": "agent_id",
                "in": "query",
                "description": "Only of this agent; with `board`: as this agent",
                "schema": { "type": "string", "pattern": AgentId::PATTERN },
            }),
            of_board(
                "board",
                "Only of this board",
                &json!({ "type": "string", "pattern": BoardName::PATTERN }),
            ),
            of_board(
                "key",
                "Only of this key of `board`",
                &json!({ "type": "string", "minLength": 1, "maxLength": 512 }),
            ),
            of_board(
                "prefix",
                "Only of keys of `board` that begin so",
                &json!({ "type": "string", "maxLength": 512 }),
            ),
            of_board(
                "previous",
                "Whether events of `board` tell what was there before",
                &json!({ "type": "boolean" }),
            ),
            position("last_event_id", "query"),
            position("Last-Event-ID", "header"),
        ],
        answers: vec![(200, answer)],
        failures: &[Code::NotFound],
        ..Operation::new("get", "/events", "watch_events")
    }
}

fn of_board(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn position(name: &str, place: &str) -> Value {
    json!({
        "name": name,
        "in": place,
        "description": "Only what came after this event; the header wins",
        "schema": { "anyOf": [
            { "type": "string", "pattern": EventId::PATTERN },
            { "type": "string", "pattern": BoardEventId::PATTERN },
        ] },
    })
}

/// The names of events, and what stands for all that begin alike.
fn filters() -> Vec<String> {
    let names = EventName::ALL.map(EventName::as_str).into_iter();
    let names: Vec<&str> = names
        .chain(BoardEventName::ALL.map(BoardEventName::as_str))
        .collect();
    let mut filters: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    for (kind, _) in names.iter().filter_map(|name| name.split_once('.')) {
        let all = format!("{kind}.*");
        if !filters.contains(&all) {
            filters.push(all);
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_every_name_and_every_kind_once() {
        let filters = filters();
        for name in EventName::ALL {
            assert!(filters.contains(&name.as_str().to_owned()));
        }
        let kinds: Vec<&String> = filters.iter().filter(|one| one.ends_with(".*")).collect();
        assert!(kinds.contains(&&"grant.*".to_owned()), "{kinds:?}");
        let different: std::collections::BTreeSet<&String> = filters.iter().collect();
        assert_eq!(different.len(), filters.len());
    }
}
