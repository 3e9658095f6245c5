//! What tools and resources really answer, by REST and MCP, against the schemas
//! that are published, which are closed for it: a field that is not listed shows.

use serde_json::{Value, json};

use super::{document, validator::errors};
use crate::{
    budgets::faces as budgets,
    edge::{RestClient, asking},
    mcp::answer,
    rig::{JUSTIFICATION, Rig},
    wait::until_async,
};

/// A client that keeps all answers of tools.
struct Collector {
    rest: RestClient,
    session: String,
    answers: Vec<Answered>,
}

/// One call's answer.
struct Answered {
    tool: &'static str,
    is_error: bool,
    by_rest: bool,
    value: Value,
}

impl Collector {
    async fn new(rig: &Rig, api_key: &str) -> Self {
        let rest = rig.edge.client(api_key);
        Self {
            session: rest.mcp_session().await,
            rest,
            answers: Vec::new(),
        }
    }

    /// Calls a tool by REST and by MCP; returns what REST said.
    async fn call(&mut self, tool: &'static str, arguments: Value) -> Value {
        let (status, told) = self.rest.try_call(tool, arguments.clone()).await;
        self.answers.push(Answered {
            tool,
            is_error: !status.is_success(),
            by_rest: true,
            value: told.clone(),
        });
        let message = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
            "params": {"name": tool, "arguments": arguments}});
        let called = answer(self.rest.mcp(Some(&self.session), &message).await).await;
        let result = &called["result"];
        self.answers.push(Answered {
            tool,
            is_error: result["isError"] == true,
            by_rest: false,
            value: result["structuredContent"].clone(),
        });
        told
    }

    async fn grant(&mut self, more: Value) -> (Value, String) {
        let mut ask = asking("data_analyst");
        for (name, value) in more.as_object().unwrap() {
            ask[name] = value.clone();
        }
        let granted = self.call("request_permission", ask).await;
        let token = granted["token"].as_str().unwrap().to_owned();
        (granted, token)
    }

    async fn validate(&mut self, token: &str, agent: &str, resource_type: &str) -> Value {
        let question = json!({"token": token, "agent_id": agent, "resource_type": resource_type});
        let mut strong = question.clone();
        strong["consistency"] = json!("strong");
        self.call("validate_token", strong).await;
        self.call("validate_token", question).await
    }

    fn of(&self, tool: &str) -> impl Iterator<Item = &Answered> {
        self.answers
            .iter()
            .filter(move |answer| answer.tool == tool)
    }
}

/// The schema, taking no field that it does not list, at any depth.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(object) => {
            let mut closed: serde_json::Map<String, Value> = object
                .iter()
                .map(|(keyword, value)| (keyword.clone(), self::closed(value)))
                .collect();
            let is_object = object.get("type") == Some(&json!("object"));
            if is_object && object.get("properties").is_some_and(Value::is_object) {
                closed.entry("additionalProperties").or_insert(json!(false));
            }
            Value::Object(closed)
        }
        Value::Array(values) => values.iter().map(closed).collect(),
        other => other.clone(),
    }
}

/// Every way that a call of each tool goes.
async fn call_everything(rig: &Rig, client: &mut Collector) {
    let (granted, token) = client.grant(json!({})).await;
    client
        .grant(json!({"scope": "read:invoices", "request_id": "scoped"}))
        .await;
    let denied = client
        .call(
            "request_permission",
            json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "hi"}),
        )
        .await;
    assert_eq!(denied["decision"], "denied");
    for refused in [
        json!({}),
        json!({"agent_id": "orchestrator", "resource_type": "SAP_API", "justification": JUSTIFICATION}),
        json!({"agent_id": "data_analyst", "resource_type": "NONE", "justification": JUSTIFICATION}),
        json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": JUSTIFICATION,
            "request_id": "scoped"}),
        json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "x".repeat(2001)}),
    ] {
        client.call("request_permission", refused).await;
    }
    for id in [
        &granted["grant_id"],
        &denied["grant_id"],
        &json!("grt_0000000000000000000007"),
    ] {
        client
            .call("permission_status", json!({ "grant_id": id }))
            .await;
    }
    client
        .call(
            "renew_permission",
            json!({"token": token, "ttl_seconds": 600}),
        )
        .await;
    client
        .call(
            "renew_permission",
            json!({"token": token, "ttl_seconds": 4_000_000}),
        )
        .await;
    client
        .call("renew_permission", json!({"token": "e.y.J"}))
        .await;

    let valid = client.validate(&token, "data_analyst", "SAP_API").await;
    assert_eq!(valid["valid"], true, "{valid}");
    client
        .validate(&token, "data_analyst", "FINANCIAL_API")
        .await;
    client.validate(&token, "orchestrator", "SAP_API").await;
    client.validate("e.y.J", "data_analyst", "SAP_API").await;
    client
        .validate(&foreign(&token), "data_analyst", "SAP_API")
        .await;
    client
        .validate(&token, "data_analyst", "no such type")
        .await;

    call_about_agents(client).await;
    call_about_boards(client).await;
    call_about_budgets(rig, client).await;

    let (brief, ending) = client.grant(json!({"ttl_seconds": 2})).await;
    client.call("revoke_token", json!({ "token": token })).await;
    client
        .call("revoke_token", json!({ "token": "e.y.J" }))
        .await;
    client.validate(&token, "data_analyst", "SAP_API").await;
    client
        .call(
            "permission_status",
            json!({ "grant_id": granted["grant_id"] }),
        )
        .await;
    client
        .call("renew_permission", json!({ "token": token }))
        .await;

    let rest = rig.edge.client(&rig.api_key);
    until_async("the grant has ended", async || {
        let status = rest.call(
            "permission_status",
            json!({ "grant_id": brief["grant_id"] }),
        );
        status.await["state"] == "expired"
    })
    .await;
    client.validate(&ending, "data_analyst", "SAP_API").await;
    client
        .call(
            "permission_status",
            json!({ "grant_id": brief["grant_id"] }),
        )
        .await;
    client
        .call("renew_permission", json!({ "token": ending }))
        .await;
}

async fn call_about_agents(client: &mut Collector) {
    for arguments in [
        json!({"agent_id": "data_analyst", "capabilities": ["a.b@1", {"name": "c", "attributes": {"k": "v"}}],
            "endpoint": "http://127.0.0.1:8000/mcp", "labels": {"region": "eu"}, "ttl_seconds": 60}),
        json!({"agent_id": "data_analyst", "trust_level": 1000}),
        json!({"agent_id": "orchestrator"}),
        json!({"agent_id": "data_analyst", "capabilities": ["a b"]}),
    ] {
        client.call("register_agent", arguments).await;
    }
    for agent in ["data_analyst", "orchestrator"] {
        client.call("heartbeat", json!({ "agent_id": agent })).await;
    }
    for arguments in [
        json!({"capability": "a.*", "limit": 1}),
        json!({}),
        json!({"cursor": "x"}),
    ] {
        client.call("discover_agents", arguments).await;
    }
    // by REST it succeeds, by MCP it has been done: with its request id it succeeds again
    for arguments in [
        json!({"agent_id": "data_analyst", "request_id": "ended"}),
        json!({"agent_id": "data_analyst"}),
    ] {
        client.call("deregister_agent", arguments).await;
    }
}

/// Every way that a call about boards goes.
async fn call_about_boards(client: &mut Collector) {
    let put =
        |key: &str| json!({"op": "put", "key": key, "value": {"a": [1, null]}, "ttl_seconds": 600});
    let get = |key: &str| json!({"op": "get", "key": key});
    for (tool, calls) in [
        (
            "blackboard_write",
            vec![
                json!({"board": "strong", "key": "a", "value": {"b": [1.5, null, "x"]}}),
                json!({"board": "strong", "key": "a", "value": null, "ttl_seconds": 600}),
                json!({"board": "strong", "key": "a", "value": 1, "if_revision": 0}),
                json!({"key": "a"}),
            ],
        ),
        (
            "blackboard_transaction",
            vec![
                json!({"board": "strong", "then": [put("b"), get("a"), get("nothing"), {"op": "delete", "key": "no"}]}),
                json!({"board": "strong", "compare": [{"key": "b", "exists": false}], "else": [get("b")]}),
                json!({"board": "eventual", "then": [put("b")]}),
            ],
        ),
        (
            "blackboard_read",
            vec![
                json!({"board": "strong", "key": "a"}),
                json!({"board": "strong", "key": "b"}),
                json!({"key": "nothing"}),
            ],
        ),
        (
            "lock_acquire",
            vec![
                json!({"key": "lock"}),
                json!({"key": "lock"}),
                json!({"key": "a"}),
            ],
        ),
        (
            "lock_renew",
            vec![json!({"key": "lock"}), json!({"key": ""})],
        ),
        (
            "blackboard_list",
            vec![
                json!({"board": "strong"}),
                json!({"board": "strong", "keys_only": true, "limit": 1}),
                json!({"board": "no-such"}),
            ],
        ),
        (
            "lock_release",
            vec![json!({"key": "lock"}), json!({"key": "lock"}), json!({})],
        ),
        (
            "blackboard_delete",
            vec![
                json!({"board": "strong", "key": "b"}),
                json!({"board": "strong", "key": ""}),
            ],
        ),
    ] {
        for arguments in calls {
            client.call(tool, arguments).await;
        }
    }
}

/// Every way that a call about budgets goes.
async fn call_about_budgets(rig: &Rig, client: &mut Collector) {
    budgets::create(&rig.control_plane, "q4", &["*"]).await;
    let of = |tokens: u64| json!({"agent_id": "data_analyst", "task_id": "q4", "tokens": tokens});
    let with = |tokens: u64, name: &str, value: &Value| {
        let mut arguments = of(tokens);
        arguments[name] = value.clone();
        arguments
    };
    let reserved = client.call("request_allocation", of(10)).await;
    for refused in [of(5000), of(0), with(1, "task_id", &json!("no-such"))] {
        client.call("request_allocation", refused).await;
    }
    let reservation = &reserved["reservation_id"];
    for arguments in [
        // by REST it is settled, by MCP it was
        with(4, "reservation_id", reservation),
        with(2000, "request_id", &json!("r1")),
        of(1),
    ] {
        client.call("report_spending", arguments).await;
    }
    for task in ["q4", "no-such"] {
        client
            .call("budget_status", json!({ "task_id": task }))
            .await;
    }
}

/// The same token, as if a key had signed it that nobody knows.
fn foreign(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let (header, rest) = token.split_once('.').unwrap();
    let mut header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header["kid"] = json!("key_0000000000000000000007");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[tokio::test]
async fn results_and_errors_of_every_tool_are_as_published_and_have_nothing_else() {
    let rig = Rig::start().await;
    let validator = rig.control_plane.api_key(&["data_analyst"], true).await;
    let mut client = Collector::new(&rig, &validator).await;
    call_everything(&rig, &mut client).await;

    let told: Vec<&str> = client
        .of("validate_token")
        .filter_map(|answer| answer.value["reason"].as_str())
        .collect();
    for reason in [
        "TOKEN_INVALID",
        "TOKEN_FOREIGN_KEY",
        "AGENT_MISMATCH",
        "RESOURCE_MISMATCH",
        "GRANT_EXPIRED",
        "GRANT_REVOKED",
        "UNKNOWN_RESOURCE_TYPE",
    ] {
        assert!(told.contains(&reason), "{reason} was not told: {told:?}");
    }
    let states: Vec<&str> = client
        .of("permission_status")
        .filter_map(|answer| answer.value["state"].as_str())
        .collect();
    for state in ["active", "denied", "revoked", "expired"] {
        assert!(states.contains(&state), "{state} was not told");
    }

    let document = document(&rig).await;
    let list = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"});
    let listed = answer(client.rest.mcp(Some(&client.session), &list).await).await;
    for tool in listed["result"]["tools"].as_array().unwrap() {
        let name = tool["name"].as_str().unwrap();
        let schemas = &document["components"]["schemas"];
        let path = format!("/mcp/tools/{name}");
        let success = &document["paths"][&path]["post"]["responses"]["200"]["content"];
        let pointer = success["application/json"]["schema"]["$ref"]
            .as_str()
            .unwrap();
        let result = document.pointer(&pointer[1..]).unwrap();
        for (by_rest, is_error, schema) in [
            (true, false, result),
            (true, true, &schemas["Problem"]),
            (false, false, &tool["outputSchema"]),
            (false, true, &tool["outputSchema"]),
        ] {
            let answers: Vec<Value> = client
                .of(name)
                .filter(|answer| answer.by_rest == by_rest && answer.is_error == is_error)
                .map(|answer| answer.value.clone())
                .collect();
            assert!(
                !answers.is_empty(),
                "{name}: nothing was tried, {by_rest} {is_error}"
            );
            let mut unlisted = answers[0].clone();
            unlisted["unlisted"] = json!(true);
            let mut found = errors(&closed(schema), &[&answers[..], &[unlisted]].concat()).await;
            assert_ne!(found.pop().unwrap().len(), 0, "{name}: it is not closed");
            for (answer, errors) in answers.iter().zip(found) {
                assert!(errors.is_empty(), "{name}: {errors:?} in {answer}");
            }
        }
    }
}

#[tokio::test]
async fn resources_and_sessions_are_as_published_and_have_nothing_else() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    client.granted().await;
    let mut ask = asking("data_analyst");
    ask["scope"] = json!("read:invoices");
    client.call("request_permission", ask).await;
    let agent =
        json!({"agent_id": "data_analyst", "capabilities": ["a.b@1"], "labels": {"a": "b"}});
    client.call("register_agent", agent).await;
    client
        .call("blackboard_write", json!({"key": "a", "value": 1}))
        .await;
    budgets::create(&rig.control_plane, "q4", &["data_analyst"]).await;
    let who = crate::edge::http()
        .get(format!("{}/auth/session", rig.edge.url))
        .bearer_auth(&rig.api_key);
    let ready = crate::edge::http().get(format!("{}/readyz", rig.edge.url));
    let document = document(&rig).await;
    for (schema, value) in [
        (
            "BlackboardReadResult",
            client.resource("blackboard://eventual/a").await,
        ),
        (
            "BlackboardListResult",
            client.resource("blackboard://eventual/").await,
        ),
        ("BudgetStatusResult", client.resource("budget://q4").await),
        ("ActiveGrants", client.resource("grants://active").await),
        ("AuditLog", client.resource("grants://audit").await),
        ("Agents", client.resource("agents://registry").await),
        ("Session", who.send().await.unwrap().json().await.unwrap()),
        (
            "Readiness",
            ready.send().await.unwrap().json().await.unwrap(),
        ),
    ] {
        let published = &document["components"]["schemas"][schema];
        assert!(published.is_object(), "{schema}");
        let found = errors(&closed(published), std::slice::from_ref(&value)).await;
        assert!(found[0].is_empty(), "{schema}: {:?} in {value}", found[0]);
    }
}
