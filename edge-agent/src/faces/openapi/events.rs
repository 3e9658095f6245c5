//! The stream of events, as an operation.

use authguardian_proto::ids::AgentId;
use serde_json::{Value, json};

use super::operation::{Access, Operation};
use crate::core::{EventId, EventName};

const DESCRIPTION: &str = "Server-sent events: each has a name, JSON `data` and, where the stream can be resumed after it, \
    an `id`. Comes again with the last `id` as `Last-Event-ID`, which a browser does by itself. `COMPACTED` and `LAGGED` \
    are events too: they tell that events were missed, and from where to go on.";

/// `GET /events`.
pub(super) fn watch() -> Operation {
    let answer = json!({
        "description": "The events, until the client leaves or its credential ends.",
        "content": { "text/event-stream": { "schema": { "type": "string" } } },
    });
    Operation {
        tag: "events",
        summary: "Follow what happens to the caller's grants".to_owned(),
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
                "description": "Only of this agent",
                "schema": { "type": "string", "pattern": AgentId::PATTERN },
            }),
            position("last_event_id", "query"),
            position("Last-Event-ID", "header"),
        ],
        answers: vec![(200, answer)],
        ..Operation::new("get", "/events", "watch_events")
    }
}

fn position(name: &str, place: &str) -> Value {
    json!({
        "name": name,
        "in": place,
        "description": "Only what came after this event; the header wins",
        "schema": { "type": "string", "pattern": EventId::PATTERN },
    })
}

/// The names of events, and what stands for all that begin alike.
fn filters() -> Vec<String> {
    let names = EventName::ALL.map(EventName::as_str);
    let mut filters: Vec<String> = names.map(str::to_owned).into();
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
