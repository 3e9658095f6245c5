//! Completions and prompts over MCP, in both revisions.

use control_plane::{audit::Context, policy::ResourceType};
use serde_json::{Value, json};

use crate::{
    edge::http,
    mcp::{answer, stateless},
    rig::Rig,
};

const INVALID_PARAMS: i64 = -32602;

/// A client of one of the revisions.
enum Client<'a> {
    Session(&'a Rig, String),
    Stateless(&'a Rig),
}

impl<'a> Client<'a> {
    async fn both(rig: &'a Rig) -> [Self; 2] {
        let session = rig.edge.client(&rig.api_key).mcp_session().await;
        [Self::Session(rig, session), Self::Stateless(rig)]
    }

    /// The answer, whole.
    async fn ask(&self, method: &str, params: Value) -> Value {
        let (rig, params) = match self {
            Self::Session(rig, _) => (rig, params),
            Self::Stateless(rig) => (rig, stateless(params)),
        };
        let mut request = http()
            .post(format!("{}/mcp", rig.edge.url))
            .bearer_auth(&rig.api_key);
        if let Self::Session(_, session) = self {
            request = request
                .header("mcp-session-id", session)
                .header("mcp-protocol-version", "2025-11-25");
        } else {
            request = request
                .header("mcp-method", method)
                .header("mcp-protocol-version", "2026-07-28");
            if let Some(name) = params["name"].as_str() {
                request = request.header("mcp-name", name);
            }
        }
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        answer(request.json(&message).send().await.unwrap()).await
    }

    async fn complete(&self, argument: &str, value: &str) -> Value {
        let params = json!({
            "ref": {"type": "ref/prompt", "name": "request_permission"},
            "argument": {"name": argument, "value": value},
        });
        let answer = self.ask("completion/complete", params).await;
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"]["completion"].clone()
    }

    /// What a refusal names.
    async fn refusal(&self, method: &str, params: Value) -> String {
        let answer = self.ask(method, params).await;
        assert_eq!(answer["error"]["code"], INVALID_PARAMS, "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }
}

/// Adds so many resource types.
async fn add_resource_types(rig: &Rig, count: usize) {
    for number in 0..count {
        let resource_type = ResourceType {
            name: format!("MADE_{number:03}").parse().unwrap(),
            base_risk: 100,
            restrictions: vec![],
            default_ttl_seconds: 60,
            max_ttl_seconds: 60,
            description: String::new(),
        };
        let policies = &rig.control_plane.app.policies;
        let put = policies.put_resource_type(Context::system(), resource_type);
        put.await.unwrap();
    }
}

#[tokio::test]
async fn agents_and_resource_types_are_completed_what_begins_with_it_first() {
    let rig = Rig::start().await;
    for client in Client::both(&rig).await {
        assert_eq!(
            client.complete("agent_id", "da").await,
            json!({"values": ["data_analyst"], "total": 1, "hasMore": false}),
        );
        // the key does not speak for it
        assert_eq!(
            client.complete("agent_id", "orch").await["values"],
            json!([])
        );
        assert_eq!(
            client.complete("resource_type", "").await["values"],
            json!([
                "DATA_EXPORT",
                "EXTERNAL_SERVICE",
                "FINANCIAL_API",
                "SAP_API"
            ]),
        );
        assert_eq!(
            client.complete("resource_type", "ex").await["values"],
            json!(["EXTERNAL_SERVICE", "DATA_EXPORT"]),
        );
        assert_eq!(
            client.complete("resource_type", "api").await["values"],
            json!(["FINANCIAL_API", "SAP_API"]),
        );
        assert_eq!(
            client.complete("task", "re").await,
            json!({"values": [], "total": 0, "hasMore": false}),
        );
    }
}

#[tokio::test]
async fn of_many_resource_types_a_hundred_are_told_and_how_many_there_are() {
    let rig = Rig::start().await;
    add_resource_types(&rig, 120).await;
    for client in Client::both(&rig).await {
        let all = client.complete("resource_type", "made").await;
        assert_eq!(all["values"].as_array().unwrap().len(), 100);
        assert_eq!(
            (&all["total"], &all["hasMore"]),
            (&json!(120), &json!(true))
        );
        assert_eq!(all["values"][99], "MADE_099");
        let some = client.complete("resource_type", "made_11").await;
        assert_eq!(
            (&some["total"], &some["hasMore"]),
            (&json!(10), &json!(false))
        );
    }
}

#[tokio::test]
async fn what_cannot_be_completed_is_refused_by_its_name() {
    let rig = Rig::start().await;
    for client in Client::both(&rig).await {
        let argument = |name: &str| json!({"name": name, "value": ""});
        for (reference, argument, named) in [
            (
                json!({"type": "ref/prompt", "name": "no_such"}),
                argument("task"),
                "`no_such`",
            ),
            (
                json!({"type": "ref/prompt", "name": "request_permission"}),
                argument("scope"),
                "`scope`",
            ),
            (
                json!({"type": "ref/resource", "uri": "secrets://{name}"}),
                argument("name"),
                "`secrets://{name}`",
            ),
            (
                json!({"type": "ref/resource", "uri": "blackboard://{board}/{key}"}),
                argument("keys"),
                "`keys`",
            ),
            (
                json!({"type": "ref/resource", "uri": "budget://{task_id}"}),
                argument("task"),
                "`task`",
            ),
            (
                json!({"type": "ref/tool", "name": "x"}),
                argument("x"),
                "`completion/complete`",
            ),
            (
                json!({"type": "ref/prompt", "name": "request_permission"}),
                json!({}),
                "`completion/complete`",
            ),
        ] {
            let params = json!({"ref": reference, "argument": argument});
            let message = client.refusal("completion/complete", params).await;
            assert!(message.contains(named), "{named} is not in `{message}`");
        }
    }
}

#[tokio::test]
async fn the_prompt_is_listed_and_tells_how_to_ask() {
    let rig = Rig::start().await;
    for client in Client::both(&rig).await {
        let listed = client.ask("prompts/list", json!({})).await;
        let prompts = listed["result"]["prompts"].as_array().unwrap();
        assert_eq!(prompts.len(), 1);
        assert_eq!(prompts[0]["name"], "request_permission");
        let arguments = prompts[0]["arguments"].as_array().unwrap();
        let names: Vec<&str> = arguments
            .iter()
            .map(|argument| argument["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["agent_id", "resource_type", "task"]);
        let params = json!({"name": "request_permission", "arguments": {
            "agent_id": "data_analyst", "resource_type": "SAP_API", "task": "reconcile the invoices of Q4"}});
        let got = client.ask("prompts/get", params).await;
        let message = &got["result"]["messages"][0];
        assert_eq!(message["role"], "user", "{got}");
        let text = message["content"]["text"].as_str().unwrap();
        for part in [
            "`data_analyst`",
            "`SAP_API`",
            "reconcile the invoices of Q4",
            "`revoke_token`",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[tokio::test]
async fn a_prompt_without_a_required_argument_is_refused_by_its_name() {
    let rig = Rig::start().await;
    for client in Client::both(&rig).await {
        for (params, named) in [
            (json!({"name": "no_such"}), "`no_such`"),
            (
                json!({"name": "request_permission"}),
                "`agent_id` is required",
            ),
            (
                json!({"name": "request_permission", "arguments": {"agent_id": "a", "resource_type": "SAP_API"}}),
                "`task` is required",
            ),
            (json!({"name": 7}), "`prompts/get`"),
        ] {
            let message = client.refusal("prompts/get", params).await;
            assert!(message.contains(named), "{named} is not in `{message}`");
        }
    }
}

#[tokio::test]
async fn boards_and_their_keys_are_offered_for_the_uri_of_a_key() {
    let rig = Rig::start().await;
    let rest = rig.edge.client(&rig.api_key);
    for key in ["tasks/1", "tasks/2 b", "other"] {
        let arguments = json!({"board": "session", "key": key, "value": 1});
        rest.call("blackboard_write", arguments).await;
    }
    for client in Client::both(&rig).await {
        let complete = async |argument: &str, value: &str, chosen: Value| {
            let params = json!({
                "ref": {"type": "ref/resource", "uri": "blackboard://{board}/{key}"},
                "argument": {"name": argument, "value": value},
                "context": {"arguments": chosen},
            });
            let answer = client.ask("completion/complete", params).await;
            answer["result"]["completion"]["values"].clone()
        };
        let all = complete("board", "", json!({})).await;
        assert_eq!(all, json!(["eventual", "session", "strong"]));
        assert_eq!(complete("board", "st", json!({})).await, json!(["strong"]));
        let keys = complete("key", "tasks/", json!({"board": "session"})).await;
        assert_eq!(keys, json!(["tasks/1", "tasks/2 b"]));
        assert_eq!(complete("key", "tasks/", json!({})).await, json!([]));
    }
}

#[tokio::test]
async fn both_are_announced_in_both_revisions() {
    let rig = Rig::start().await;
    let [_, stateless] = Client::both(&rig).await;
    let discovered = stateless.ask("server/discover", json!({})).await;
    let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let initialized = answer(rig.edge.client(&rig.api_key).mcp(None, &begin).await).await;
    for told in [discovered, initialized] {
        let capabilities = &told["result"]["capabilities"];
        assert!(capabilities["completions"].is_object(), "{told}");
        assert!(capabilities["prompts"].is_object(), "{told}");
    }
}
