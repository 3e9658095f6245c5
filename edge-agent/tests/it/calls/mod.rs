//! Calls from agent to agent through the edges of two machines.

use std::process::Output;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    edge::{Edge, Launch, RestClient, command, http, output, read},
    rig::ControlPlane,
    wait::until_async,
};
use server::AgentServer;

mod server;

const JUSTIFICATION: &str = "Q4 report needs the list of all invoices of the quarter";

/// A caller on one machine, and an agent with a server on another.
struct Two {
    control_plane: ControlPlane,
    near: Edge,
    far: Edge,
    caller: String,
    reader: String,
}

impl Two {
    async fn start() -> Self {
        let control_plane = ControlPlane::start().await;
        for agent in ["data_analyst", "orchestrator", "team/reader", "other"] {
            control_plane.agent(agent, 800).await;
        }
        let caller = control_plane.api_key(&["data_analyst"], false).await;
        let reader = control_plane
            .api_key(&["team/reader", "other"], false)
            .await;
        let near = edge(&control_plane, "near").await;
        let far = edge(&control_plane, "far").await;
        Self {
            control_plane,
            near,
            far,
            caller,
            reader,
        }
    }

    fn near(&self) -> RestClient {
        self.near.client(&self.caller)
    }

    async fn register(&self, agent: &str, endpoint: &str) {
        let asked =
            json!({"agent_id": agent, "capabilities": ["finance.invoices"], "endpoint": endpoint});
        let client = self.far.client(&self.reader);
        client.call("register_agent", asked).await;
    }

    /// A grant of the caller to call an agent.
    async fn grant(&self, agent: &str, scope: Option<&str>) -> String {
        let asked = json!({
            "agent_id": "data_analyst",
            "resource_type": format!("agent:{agent}"),
            "justification": JUSTIFICATION,
            "scope": scope,
        });
        let decision = self.near().call("request_permission", asked).await;
        decision["token"]
            .as_str()
            .unwrap_or_else(|| panic!("{decision}"))
            .to_owned()
    }

    /// Sends one message to an agent through an edge.
    async fn send(
        &self,
        at: &Edge,
        key: &str,
        agent: &str,
        grant: Option<&str>,
    ) -> (StatusCode, Value) {
        let agent = agent.replace('/', "%2F");
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}});
        let mut request = http()
            .post(format!("{}/agents/{agent}/mcp", at.url))
            .bearer_auth(key)
            .json(&call);
        if let Some(grant) = grant {
            request = request.header("X-AuthGuardian-Grant", grant);
        }
        read(request.send().await.unwrap()).await
    }

    async fn refusal(&self, agent: &str, grant: Option<&str>) -> String {
        let (status, body) = self.send(&self.near, &self.caller, agent, grant).await;
        assert!(!status.is_success(), "{body}");
        assert_eq!(body["id"], 1, "{body}");
        body["error"]["data"]["reason"].as_str().unwrap().to_owned()
    }

    async fn call(&self, arguments: &[&str]) -> Output {
        let mut command = command();
        command
            .arg("call")
            .args(arguments)
            .env("AUTHGUARDIAN_EDGE_URL", &self.near.url)
            .env("AUTHGUARDIAN_API_KEY", &self.caller);
        output(command).await
    }
}

/// An edge that other edges reach.
async fn edge(control_plane: &ControlPlane, machine: &str) -> Edge {
    let mut launch = Launch::at(&[control_plane.url()]);
    let listen = ("AUTHGUARDIAN_PEER__LISTEN", "127.0.0.1:0".into());
    launch.environment.push(listen);
    Edge::start_with(control_plane, machine, launch).await
}

#[tokio::test]
async fn an_agent_calls_a_tool_of_an_agent_on_another_machine() {
    let two = Two::start().await;
    let server = AgentServer::start().await;
    two.register("team/reader", &server.endpoint()).await;
    let called = two
        .call(&[
            "--agent",
            "team/reader",
            "echo",
            "--arguments",
            r#"{"quarter": "Q4"}"#,
            "--justification",
            JUSTIFICATION,
            "-o",
            "json",
        ])
        .await;
    let stderr = String::from_utf8_lossy(&called.stderr).into_owned();
    assert_eq!(called.status.code(), Some(0), "{stderr}");
    let said: Value = serde_json::from_slice(&called.stdout).unwrap();
    assert_eq!(said, json!({"tool": "echo", "said": {"quarter": "Q4"}}));

    // with a grant that is held already, and the same agent of this machine itself
    let grant = two.grant("team/reader", Some("echo")).await;
    let called = two
        .call(&["--agent", "team/reader", "echo", "--grant", &grant])
        .await;
    assert_eq!(called.status.code(), Some(0));

    let seen = server.seen();
    assert!(!seen.is_empty());
    for headers in seen {
        assert_eq!(headers["x-authguardian-caller"], "data_analyst");
        assert!(headers.contains_key("x-authguardian-machine"));
        assert!(headers.contains_key("x-authguardian-grant-id"));
        for secret in ["authorization", "x-authguardian-grant", "cookie"] {
            assert!(!headers.contains_key(secret), "{headers:?}");
        }
        let all = format!("{headers:?}");
        assert!(!all.contains(&grant) && !all.contains(&two.caller), "{all}");
    }
}

#[tokio::test]
async fn a_call_needs_a_grant_for_this_agent_by_this_caller_and_for_this_tool() {
    let two = Two::start().await;
    let server = AgentServer::start().await;
    two.register("team/reader", &server.endpoint()).await;
    two.register("other", &server.endpoint()).await;
    let good = two.grant("team/reader", Some("echo")).await;

    assert_eq!(two.refusal("team/reader", None).await, "PERMISSION_DENIED");
    assert_eq!(two.refusal("other", Some(&good)).await, "RESOURCE_MISMATCH");
    let (_, sap) = two.near().granted().await;
    assert_eq!(
        two.refusal("team/reader", Some(&sap)).await,
        "RESOURCE_MISMATCH"
    );
    assert_eq!(
        two.refusal("team/reader", Some("x.y.z")).await,
        "TOKEN_INVALID"
    );
    let beyond = two.grant("team/reader", Some("list_invoices")).await;
    assert_eq!(
        two.refusal("team/reader", Some(&beyond)).await,
        "PERMISSION_DENIED"
    );

    // another's grant, at the caller's own edge
    let thief = two.control_plane.api_key(&["orchestrator"], false).await;
    let (_, stolen) = two
        .send(&two.near, &thief, "team/reader", Some(&good))
        .await;
    assert_eq!(stolen["error"]["data"]["reason"], "AGENT_MISMATCH");
    // and the caller's own through another machine
    let (_, moved) = two
        .send(&two.far, &two.caller, "team/reader", Some(&good))
        .await;
    assert_eq!(moved["error"]["data"]["reason"], "PERMISSION_DENIED");
    assert!(server.seen().is_empty(), "{:?}", server.seen());

    let unknown = json!({"agent_id": "data_analyst", "resource_type": "agent:nobody", "justification": JUSTIFICATION});
    let refused = two.near().refusal("request_permission", unknown).await;
    assert_eq!(refused, "UNKNOWN_AGENT");

    two.near()
        .call("revoke_token", json!({"token": good}))
        .await;
    assert_eq!(
        two.refusal("team/reader", Some(&good)).await,
        "GRANT_REVOKED"
    );
}

#[tokio::test]
async fn a_denied_call_says_why_and_has_its_exit_code() {
    let two = Two::start().await;
    let server = AgentServer::start().await;
    two.register("team/reader", &server.endpoint()).await;
    let denied = two
        .call(&["--agent", "team/reader", "echo", "--justification", "test"])
        .await;
    assert_eq!(denied.status.code(), Some(4));
    let stderr = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(stderr.contains("was not given"), "{stderr}");
    let usage = two.call(&["--agent", "team/reader", "echo"]).await;
    assert_eq!(usage.status.code(), Some(2));
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn no_credential_reaches_a_foreign_or_internal_endpoint() {
    let two = Two::start().await;
    let trap = AgentServer::start().await;
    let grant = two.grant("team/reader", None).await;
    for foreign in ["https://10.0.0.1/mcp", "https://192.0.2.7:8443/mcp"] {
        two.register("team/reader", foreign).await;
        let reason = two.refusal("team/reader", Some(&grant)).await;
        assert_eq!(reason, "ADDRESS_NOT_ALLOWED", "{foreign}");
    }
    let client = two.far.client(&two.reader);
    for internal in [
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "https://u:p@a.example/",
        "file:///etc/passwd",
    ] {
        let asked = json!({"agent_id": "team/reader", "endpoint": internal});
        let (_, refused) = client.try_call("register_agent", asked).await;
        assert_eq!(
            (&refused["reason"], &refused["field"]),
            (&json!("INVALID_ARGUMENT"), &json!("endpoint")),
            "{refused}"
        );
    }
    // loopback is allowed, where it sends whoever comes is not looked at
    let redirecting = AgentServer::redirecting(&trap.endpoint()).await;
    two.register("team/reader", &redirecting.endpoint()).await;
    assert_eq!(
        two.refusal("team/reader", Some(&grant)).await,
        "UNAVAILABLE"
    );
    assert!(trap.seen().is_empty(), "{:?}", trap.seen());
    for headers in redirecting.seen() {
        assert!(!headers.contains_key("authorization"), "{headers:?}");
    }
}

#[tokio::test]
async fn an_agent_that_is_gone_or_has_no_server_cannot_be_called() {
    let two = Two::start().await;
    let server = AgentServer::start().await;
    two.register("team/reader", &server.endpoint()).await;
    let grant = two.grant("team/reader", Some("echo")).await;
    let client = two.far.client(&two.reader);
    client
        .call("register_agent", json!({"agent_id": "team/reader"}))
        .await;
    assert_eq!(
        two.refusal("team/reader", Some(&grant)).await,
        "UNAVAILABLE"
    );
    client
        .call("deregister_agent", json!({"agent_id": "team/reader"}))
        .await;
    until_async("the far edge knows", async || {
        two.refusal("team/reader", Some(&grant)).await == "UNKNOWN_AGENT"
    })
    .await;
    assert!(server.seen().is_empty());
}
