//! The whole document: what there is, from the tables that it is served from.

use authguardian_proto::reason::Code;
use serde_json::{Map, Value, json};

use super::{
    super::{
        auth::{self, ChallengeAnswer, NewSessionAnswer, SessionAnswer},
        health::Readiness,
        ticket::TicketAnswer,
    },
    events, failure,
    operation::{Access, Operation, json_answer, schema_reference},
};
use crate::{
    config::Faces,
    core::{BoardUri, BudgetUri, Resource, Tool, schema_of},
};

const DESCRIPTION: &str = "Time-bound permissions for AI agents, as plain HTTP. The same tools and resources are \
    reached over MCP, with the same results, limits and errors. A denial and `valid: false` are results (`200`); \
    errors are problem details with a stable `reason`.";

const CREDENTIAL: &str = "An API key (`agk_…`), or the session token of `POST /auth/session`.";

const TICKET: &str = "For pages, which cannot send a header with a stream: a ticket of `POST /auth/ticket`, good once.";

/// OpenAPI 3.1.1 of the faces that are shown.
pub(super) fn document(shown: Faces) -> Value {
    let mut operations = Vec::new();
    let mut schemas = Map::new();
    if shown.rest {
        operations.extend(Tool::ALL.into_iter().map(|tool| call(tool, &mut schemas)));
        operations.push(read(&mut schemas));
    }
    if shown.events {
        operations.push(events::watch());
    }
    operations.extend(login(&mut schemas));
    operations.extend(health(&mut schemas));
    schemas.insert("Problem".to_owned(), failure::problem());
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "AuthGuardian edge",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "credential": [] }],
        "tags": [
            { "name": "tools", "description": "What an agent or the owner of a resource does." },
            { "name": "resources", "description": "What a caller can read." },
            { "name": "events", "description": "What happens, as it happens." },
            { "name": "login", "description": "A session for whoever signs a nonce with the API key." },
            { "name": "health", "description": "For supervisors and programs; open to all." },
        ],
        "paths": paths(&operations),
        "components": {
            "securitySchemes": {
                "credential": { "type": "http", "scheme": "bearer", "description": CREDENTIAL },
                "ticket": { "type": "apiKey", "in": "query", "name": "ticket", "description": TICKET },
            },
            "schemas": schemas,
            "responses": failure::responses(),
        },
    })
}

fn paths(operations: &[Operation]) -> Map<String, Value> {
    let mut paths = Map::new();
    for operation in operations {
        let path = paths
            .entry(operation.path.clone())
            .or_insert_with(|| json!({}));
        path[operation.method] = operation.to_json();
    }
    paths
}

fn call(tool: Tool, schemas: &mut Map<String, Value>) -> Operation {
    let name = pascal_case(tool.name());
    let (arguments, result) = (format!("{name}Arguments"), format!("{name}Result"));
    schemas.insert(arguments.clone(), tool.input_schema().into());
    schemas.insert(result.clone(), tool.output_schema().into());
    Operation {
        tag: "tools",
        summary: tool.title().to_owned(),
        description: tool.description().to_owned(),
        body: Some(schema_reference(&arguments)),
        needs_body: tool.fields().iter().any(|field| field.required),
        answers: vec![(200, json_answer("The result.", &schema_reference(&result)))],
        failures: tool.failures(),
        ..Operation::new("post", format!("/mcp/tools/{}", tool.name()), tool.name())
    }
}

fn read(schemas: &mut Map<String, Value>) -> Operation {
    let mut contents = Vec::new();
    for resource in Resource::ALL {
        let name = pascal_case(resource.name());
        schemas.insert(name.clone(), resource.schema().into());
        contents.push(schema_reference(&name));
    }
    contents.push(schema_reference("BlackboardReadResult"));
    contents.push(schema_reference("BlackboardListResult"));
    contents.push(schema_reference("BudgetStatusResult"));
    let mut lines: Vec<String> = Resource::ALL
        .map(|resource| format!("- `{}`: {}", resource.uri(), resource.description()))
        .into();
    lines.push(format!(
        "- `{}`: a key of a blackboard as `blackboard_read` tells it, the key percent-encoded within the URI; without a \
         key, the keys of the board",
        BoardUri::TEMPLATE
    ));
    lines.push(format!(
        "- `{}`: a budget as `budget_status` tells it, the task percent-encoded within the URI",
        BudgetUri::TEMPLATE
    ));
    let uri = json!({
        "name": "uri",
        "in": "path",
        "required": true,
        "description": "URI of the resource, percent-encoded",
        "schema": { "anyOf": [
            { "type": "string", "enum": Resource::ALL.map(Resource::uri) },
            { "type": "string", "pattern": "^blackboard://[a-z][a-z0-9_-]{0,63}/" },
            { "type": "string", "pattern": "^budget://[A-Za-z0-9]" },
        ] },
    });
    Operation {
        tag: "resources",
        summary: "Read a resource".to_owned(),
        description: lines.join("\n"),
        parameters: vec![uri],
        answers: vec![(
            200,
            json_answer("What it holds.", &json!({ "anyOf": contents })),
        )],
        failures: &[Code::NotFound],
        ..Operation::new("get", "/mcp/resources/{uri}", "read_resource")
    }
}

fn login(schemas: &mut Map<String, Value>) -> [Operation; 6] {
    let mut share = |name: &str, schema: Map<String, Value>| {
        schemas.insert(name.to_owned(), schema.into());
        schema_reference(name)
    };
    let challenge = share("Challenge", schema_of::<ChallengeAnswer>());
    let session = share("Session", schema_of::<SessionAnswer>());
    let new_session = share("NewSession", schema_of::<NewSessionAnswer>());
    let ticket = share("Ticket", schema_of::<TicketAnswer>());
    let operation = |method, path, id: &str, summary: &str| Operation {
        tag: "login",
        summary: summary.to_owned(),
        ..Operation::new(method, path, id)
    };
    [
        Operation {
            access: Access::Login,
            body: Some(auth::body::schema(auth::body::CHALLENGE)),
            answers: vec![(200, json_answer("What to sign.", &challenge))],
            ..operation(
                "post",
                "/auth/challenge",
                "create_challenge",
                "Ask for a nonce to sign",
            )
        },
        Operation {
            access: Access::Login,
            body: Some(auth::body::schema(auth::body::PROOF)),
            answers: vec![(201, json_answer("The session.", &new_session))],
            ..operation(
                "post",
                "/auth/session",
                "create_session",
                "Trade a signed nonce for a session",
            )
        },
        Operation {
            answers: vec![(200, json_answer("The caller.", &session))],
            ..operation(
                "get",
                "/auth/session",
                "read_session",
                "Tell who the caller is",
            )
        },
        Operation {
            answers: vec![(201, json_answer("The session.", &new_session))],
            failures: &[Code::OutcomeUnknown],
            ..operation(
                "post",
                "/auth/session/renew",
                "renew_session",
                "Renew the caller's session",
            )
        },
        Operation {
            answers: vec![(204, json!({ "description": "It has ended." }))],
            failures: &[Code::OutcomeUnknown],
            ..operation("delete", "/auth/session", "end_session", "Log out")
        },
        Operation {
            answers: vec![(201, json_answer("The ticket.", &ticket))],
            ..operation(
                "post",
                "/auth/ticket",
                "create_ticket",
                "Ask for a ticket for one stream of a page",
            )
        },
    ]
}

fn health(schemas: &mut Map<String, Value>) -> [Operation; 3] {
    schemas.insert("Readiness".to_owned(), schema_of::<Readiness>().into());
    let readiness = schema_reference("Readiness");
    let operation = |path, id: &str, summary: &str| Operation {
        tag: "health",
        summary: summary.to_owned(),
        access: Access::Open,
        ..Operation::new("get", path, id)
    };
    let text = json!({
        "description": "It runs.",
        "content": { "text/plain": { "schema": { "type": "string" } } },
    });
    [
        Operation {
            answers: vec![(200, text)],
            ..operation("/livez", "live", "Tell whether the process runs")
        },
        Operation {
            answers: vec![
                (200, json_answer("It answers fully.", &readiness)),
                (
                    503,
                    json_answer("It does not; the body tells why.", &readiness),
                ),
            ],
            ..operation("/readyz", "ready", "Tell whether it answers fully")
        },
        Operation {
            answers: vec![(
                200,
                json_answer("This document.", &json!({ "type": "object" })),
            )],
            ..operation("/openapi.json", "describe", "Describe what there is")
        },
    ]
}

/// `request_permission` and `Request permission` → `RequestPermission`.
fn pascal_case(name: &str) -> String {
    name.split(['_', ' '])
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(chars)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_not_described() {
        let shown = Faces::default();
        let paths = |shown| document(shown)["paths"].as_object().unwrap().clone();
        assert!(paths(shown).contains_key("/mcp/resources/{uri}"));
        let without = paths(Faces {
            rest: false,
            ..shown
        });
        assert!(without.keys().all(|path| !path.starts_with("/mcp/")));
        assert!(without.contains_key("/auth/session"));
    }

    #[test]
    fn every_route_is_described_but_those_of_mcp() {
        let source = include_str!("../mod.rs");
        let (_, routes) = source.split_once("let http = Router::new()").unwrap();
        let (routes, _) = routes.split_once(';').unwrap();
        let document = document(Faces::default());
        let described = document["paths"].as_object().unwrap();
        let mut count = 0;
        for route in routes.split(".route(").skip(1) {
            let path = route.split('"').nth(1).unwrap();
            if ["/mcp", "/sse", "/messages", "/ws", "/agents/{agent}/mcp"].contains(&path) {
                continue;
            }
            let is_it = |known: &String| match path {
                "/mcp/tools/{name}" => known.starts_with("/mcp/tools/"),
                _ => *known == path.replace("{*", "{"),
            };
            assert!(described.keys().any(is_it), "`{path}` is not described");
            count += 1;
        }
        assert!(count >= 10, "{count}");
    }

    #[test]
    fn names_of_schemas_are_one_word() {
        assert_eq!(pascal_case("request_permission"), "RequestPermission");
        assert_eq!(pascal_case("Active grants"), "ActiveGrants");
    }
}
