//! `/mcp` itself: sessions, their owners, protocol errors.

use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    edge::{asking, http, read},
    held::Held,
    rig::Rig,
    wait::DEADLINE,
};

/// A raw client, for what a well-behaved one would not do.
struct Raw<'a> {
    rig: &'a Rig,
    api_key: &'a str,
    session: Option<String>,
    accept: &'static str,
}

impl<'a> Raw<'a> {
    fn new(rig: &'a Rig) -> Self {
        Self {
            rig,
            api_key: &rig.api_key,
            session: None,
            accept: "application/json, text/event-stream",
        }
    }

    async fn post(&self, message: Value) -> Response {
        let mut request = http()
            .post(format!("{}/mcp", self.rig.edge.url))
            .header(header::ACCEPT, self.accept)
            .bearer_auth(self.api_key)
            .json(&message);
        if let Some(session) = &self.session {
            request = request
                .header("mcp-session-id", session)
                .header("mcp-protocol-version", "2025-11-25");
        }
        if let Some(version) =
            message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str()
        {
            request = request
                .header("mcp-protocol-version", version)
                .header("mcp-method", message["method"].as_str().unwrap());
            if let Some(name) = message["params"]["name"]
                .as_str()
                .or(message["params"]["uri"].as_str())
            {
                request = request.header("mcp-name", name);
            }
        }
        request.send().await.unwrap()
    }

    /// Begins a session as revision 2025-11-25 does.
    async fn initialize(&mut self) -> Value {
        let response = self
            .post(
                json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "test", "version": "1"},
                }}),
            )
            .await;
        self.session = Some(
            response.headers()["mcp-session-id"]
                .to_str()
                .unwrap()
                .to_owned(),
        );
        let answer = answer(response).await;
        let initialized = self
            .post(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        assert_eq!(initialized.status(), StatusCode::ACCEPTED);
        answer
    }

    async fn request(&self, method: &str, params: Value) -> Value {
        answer(
            self.post(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
                .await,
        )
        .await
    }
}

/// The JSON-RPC answer, from JSON or from a stream.
pub(crate) async fn answer(response: Response) -> Value {
    let text = tokio::time::timeout(DEADLINE, response.text())
        .await
        .unwrap()
        .unwrap();
    let json = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:").map(str::trim))
        .rfind(|data| !data.is_empty())
        .unwrap_or(&text);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

/// Parameters with the `_meta` of the revision without sessions.
pub(crate) fn stateless(mut params: Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
    params
}

#[tokio::test]
async fn both_revisions_give_the_same_results_and_errors() {
    let rig = Rig::start().await;
    let mut legacy = Raw::new(&rig);
    let initialized = legacy.initialize().await;
    assert_eq!(initialized["result"]["protocolVersion"], "2025-11-25");
    let modern = Raw::new(&rig);
    let discovered = modern
        .request("server/discover", stateless(json!({})))
        .await;
    assert!(
        discovered["result"]["supportedVersions"]
            .as_array()
            .unwrap()
            .contains(&json!("2026-07-28")),
        "{discovered}"
    );

    let both = async |method: &str, params: Value| {
        [
            legacy.request(method, params.clone()).await,
            modern.request(method, stateless(params)).await,
        ]
    };
    for answer in both("tools/list", json!({})).await {
        let tools = answer["result"]["tools"].as_array().unwrap().clone();
        let names: Vec<&str> = tools
            .iter()
            .map(|tool| tool["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "request_permission",
                "permission_status",
                "renew_permission",
                "validate_token",
                "revoke_token",
                "register_agent",
                "deregister_agent",
                "heartbeat",
                "discover_agents",
                "blackboard_read",
                "blackboard_write",
                "blackboard_delete",
                "blackboard_list",
                "blackboard_transaction",
                "lock_acquire",
                "lock_renew",
                "lock_release",
                "request_allocation",
                "report_spending",
                "budget_status",
            ]
        );
        assert_eq!(
            tools[0]["inputSchema"]["properties"]["resource_type"].get("enum"),
            None
        );
    }
    for answer in both(
        "tools/call",
        json!({"name": "request_permission", "arguments": asking("data_analyst")}),
    )
    .await
    {
        let result = &answer["result"];
        assert_eq!(result["structuredContent"]["score"], 570, "{answer}");
        let text: Value =
            serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
        assert_eq!(text, result["structuredContent"]);
    }
    for answer in both(
        "tools/call",
        json!({"name": "request_permission", "arguments": asking("orchestrator")}),
    )
    .await
    {
        let result = &answer["result"];
        assert_eq!(result["isError"], true, "{answer}");
        assert_eq!(result["structuredContent"]["reason"], "AGENT_MISMATCH");
        assert_eq!(result["structuredContent"]["field"], "agent_id");
    }
    for answer in both(
        "tools/call",
        json!({"name": "no_such_tool", "arguments": {}}),
    )
    .await
    {
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
    let [legacy_answer, modern_answer] =
        both("resources/read", json!({"uri": "grants://nothing"})).await;
    assert_eq!(legacy_answer["error"]["code"], -32002);
    assert_eq!(modern_answer["error"]["code"], -32602);
    for answer in both("resources/read", json!({"uri": "grants://active"})).await {
        let text = answer["result"]["contents"][0]["text"].as_str().unwrap();
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["grants"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn a_session_is_refused_to_another_key() {
    let rig = Rig::start().await;
    let mut owner = Raw::new(&rig);
    owner.initialize().await;
    let other_key = rig.control_plane.api_key(&["data_analyst"], false).await;
    let thief = Raw {
        api_key: &other_key,
        session: owner.session.clone(),
        ..Raw::new(&rig)
    };
    let (status, body) = read(
        thief
            .post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
            .await,
    )
    .await;
    assert_eq!(
        (status.as_u16(), &body["reason"]),
        (403, &json!("PERMISSION_DENIED"))
    );
    assert_eq!(
        owner.request("tools/list", json!({})).await["result"]["tools"]
            .as_array()
            .unwrap()
            .len(),
        20
    );

    let unknown = Raw {
        session: Some("no-such-session".to_owned()),
        ..Raw::new(&rig)
    };
    let (status, _) = read(
        unknown
            .post(json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
            .await,
    )
    .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_client_that_accepts_anything_is_served() {
    let rig = Rig::start().await;
    let mut raw = Raw {
        accept: "*/*",
        ..Raw::new(&rig)
    };
    raw.initialize().await;
    assert!(raw.request("tools/list", json!({})).await["result"].is_object());
}

#[tokio::test]
async fn what_is_no_message_of_mcp_is_a_protocol_error() {
    let rig = Rig::start().await;
    let mut raw = Raw::new(&rig);
    raw.initialize().await;
    for (message, code) in [(json!([]), -32600), (json!({"hello": 1}), -32600)] {
        let response = raw.post(message.clone()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{message}");
        assert_eq!(answer(response).await["error"]["code"], code, "{message}");
    }
    assert_eq!(
        raw.request("tools/call", json!({"name": 7})).await["error"]["code"],
        -32602
    );
    assert_eq!(
        raw.request("no/such/method", json!({})).await["error"]["code"],
        -32601
    );
}

#[tokio::test]
async fn a_call_that_was_given_up_is_not_waited_for() {
    let rig = Rig::start().await;
    let mut raw = Raw::new(&rig);
    raw.initialize().await;
    let held = Held::begin(&rig).await;
    let call = async {
        let params = json!({"name": "request_permission", "arguments": asking("data_analyst")});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        raw.post(message).await.text().await.unwrap()
    };
    let give_up = async {
        held.is_waited_for().await;
        raw.post(
            json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        )
        .await
    };
    let (told, cancelled) = tokio::join!(call, give_up);
    assert_eq!(cancelled.status(), StatusCode::ACCEPTED);
    assert!(!told.contains("jsonrpc"), "{told}");
    held.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_key_that_opened_it() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let mut raw = Raw {
        api_key: &key,
        ..Raw::new(&rig)
    };
    raw.initialize().await;
    let stream = http()
        .get(format!("{}/mcp", rig.edge.url))
        .header(header::ACCEPT, "text/event-stream")
        .header("mcp-session-id", raw.session.as_deref().unwrap())
        .header("mcp-protocol-version", "2025-11-25")
        .bearer_auth(&key)
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let sessionless = Raw {
        api_key: &key,
        ..Raw::new(&rig)
    };
    let listening = sessionless
        .post(json!({"jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen",
            "params": stateless(json!({"notifications": {"resourceSubscriptions": ["grants://active"]}}))}))
        .await;
    assert_eq!(listening.status(), StatusCode::OK);
    rig.control_plane.revoke_api_key(id).await;
    tokio::time::timeout(DEADLINE, stream.bytes())
        .await
        .unwrap()
        .unwrap();
    let last = answer(listening).await;
    assert_eq!(last["id"], 9, "{last}");
}

#[tokio::test]
async fn after_a_restart_an_old_session_is_not_found_and_a_new_one_begins() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let session = client.mcp_session().await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    let before = client.mcp(Some(&session), &ping).await;
    assert_eq!(before.status(), StatusCode::OK);
    let _edge = rig.edge.kill_and_run().await;
    // the status that has clients initialise again: MCP 2025-11-25, "Session Management"
    let after = client.mcp(Some(&session), &ping).await;
    assert_eq!(after.status(), StatusCode::NOT_FOUND);
    let again = client.mcp_session().await;
    assert_ne!(again, session);
    let answered = client.mcp(Some(&again), &ping).await;
    assert_eq!(answered.status(), StatusCode::OK);
}
