//! What an edge does when its machine is banned, evicted or changed, with two
//! control planes, by either of which that may be done.

use std::time::Duration;

use authguardian_proto::zone::Zone;
use base64::{Engine, prelude::BASE64_STANDARD};
use control_plane::{
    audit::Context,
    grants::Expelled,
    identity::{ServerName, Serves, TermsChange, membership::Expulsion},
};
use reqwest::{Response, StatusCode, header};
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    edge::{Edge, asking, content, http, read},
    rig::{ControlPlane, Rig},
    wait::{DEADLINE, until, until_async},
};

/// How soon streams have to end after the act was answered.
const SOON: Duration = Duration::from_secs(1);

async fn expel(control_plane: &ControlPlane, machine: &str, how: Expulsion) -> Expelled {
    let named = machine.parse().unwrap();
    let grants = &control_plane.app.grants;
    grants
        .expel_machine(Context::system(), &named, how, "")
        .await
        .unwrap()
}

async fn unban(control_plane: &ControlPlane, machine: &str) {
    let named = machine.parse().unwrap();
    let identity = &control_plane.app.identity;
    identity
        .unban_machine(Context::system(), &named)
        .await
        .unwrap();
}

async fn update(control_plane: &ControlPlane, machine: &str, change: TermsChange) {
    let named = machine.parse().unwrap();
    let identity = &control_plane.app.identity;
    identity
        .update_machine(Context::system(), &named, change)
        .await
        .unwrap();
}

fn only(agent: &str) -> TermsChange {
    TermsChange {
        agents: Some(Serves::only(vec![agent.parse().unwrap()]).unwrap()),
        ..TermsChange::default()
    }
}

/// An MCP session with its open stream, and a subscription without a session.
struct Streams {
    session: String,
    stream: Response,
    listening: Response,
}

impl Streams {
    async fn open(edge: &Edge, api_key: &str) -> Self {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}});
        let message = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let initialized = post(edge, api_key).json(&message).send().await.unwrap();
        let session = initialized.headers()["mcp-session-id"].to_str().unwrap();
        let session = session.to_owned();
        let stream = http()
            .get(format!("{}/mcp", edge.url))
            .header(header::ACCEPT, "text/event-stream")
            .header("mcp-session-id", &session)
            .header("mcp-protocol-version", "2025-11-25")
            .bearer_auth(api_key)
            .send()
            .await
            .unwrap();
        assert_eq!(stream.status(), StatusCode::OK);
        let params = json!({"notifications": {"resourceSubscriptions": ["grants://active"]},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {}}});
        let message = json!({"jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen",
            "params": params});
        let listening = post(edge, api_key)
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "subscriptions/listen")
            .json(&message)
            .send()
            .await
            .unwrap();
        assert_eq!(listening.status(), StatusCode::OK);
        Self {
            session,
            stream,
            listening,
        }
    }

    /// Waits for the end of both; returns the session.
    async fn end(self) -> String {
        let both = async {
            let (stream, listening) = tokio::join!(self.stream.bytes(), self.listening.bytes());
            stream.unwrap();
            listening.unwrap();
        };
        tokio::time::timeout(DEADLINE, both).await.unwrap();
        self.session
    }
}

fn post(edge: &Edge, api_key: &str) -> reqwest::RequestBuilder {
    http()
        .post(format!("{}/mcp", edge.url))
        .header(header::ACCEPT, "application/json, text/event-stream")
        .bearer_auth(api_key)
}

async fn readiness(edge: &Edge) -> (StatusCode, Value) {
    let asked = http().get(format!("{}/readyz", edge.url)).send().await;
    read(asked.unwrap()).await
}

#[tokio::test]
async fn a_banned_machines_streams_end_within_a_second_and_its_calls_until_it_is_unbanned() {
    let rig = Rig::start().await;
    let other = rig.control_plane.beside().await;
    let client = rig.edge.client(&rig.api_key);
    let (_, token) = client.granted().await;
    assert_eq!(client.validate(&token).await["valid"], true);
    let streams = Streams::open(&rig.edge, &rig.api_key).await;

    let banned = expel(&other, "host", Expulsion::Ban).await;
    let told = Instant::now();
    let session = streams.end().await;
    let took = told.elapsed();
    assert!(took < SOON, "the streams ended after {took:?}");
    assert_eq!(banned.ended, 1);

    for (tool, arguments) in [
        ("request_permission", asking("data_analyst")),
        (
            "validate_token",
            json!({"token": token, "agent_id": "data_analyst", "resource_type": "SAP_API"}),
        ),
    ] {
        let (status, body) = client.try_call(tool, arguments).await;
        assert_eq!(
            (status, body["reason"].as_str()),
            (StatusCode::FORBIDDEN, Some("MACHINE_BANNED")),
            "{tool}"
        );
    }
    let listed = post(&rig.edge, &rig.api_key)
        .header("mcp-session-id", &session)
        .header("mcp-protocol-version", "2025-11-25")
        .json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}))
        .send()
        .await
        .unwrap();
    assert_eq!(read(listed).await.1["reason"], "MACHINE_BANNED");
    let (status, told) = readiness(&rig.edge).await;
    assert_eq!(
        (status, told["refused"].as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, Some("MACHINE_BANNED"))
    );

    unban(&rig.control_plane, "host").await;
    until_async("the edge serves again", async || {
        readiness(&rig.edge).await.0 == StatusCode::OK
    })
    .await;
    assert_eq!(client.validate(&token).await["reason"], "GRANT_REVOKED");
    let (_, token) = client.granted().await;
    assert_eq!(client.validate(&token).await["valid"], true);
    Streams::open(&rig.edge, &rig.api_key).await;
}

#[tokio::test]
async fn an_evicted_machine_is_refused_for_good_and_another_takes_its_name() {
    let rig = Rig::start().await;
    let streams = Streams::open(&rig.edge, &rig.api_key).await;
    expel(&rig.control_plane, "host", Expulsion::Evict).await;
    let told = Instant::now();
    streams.end().await;
    let took = told.elapsed();
    assert!(took < SOON, "the streams ended after {took:?}");
    let client = rig.edge.client(&rig.api_key);
    let refused = client
        .refusal("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(refused, "MACHINE_EVICTED");
    let again = Edge::start(&rig.control_plane, "host").await;
    again.client(&rig.api_key).granted().await;
    let refused = client
        .refusal("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(refused, "MACHINE_EVICTED");
}

#[tokio::test]
async fn an_edge_takes_on_what_its_machine_is_for_from_now_on() {
    let rig = Rig::start().await;
    let other = rig.control_plane.beside().await;
    let both = ["data_analyst", "orchestrator"];
    let api_key = rig.control_plane.api_key(&both, false).await;
    let client = rig.edge.client(&api_key);
    let (_, token) = client.granted().await;
    let streams = Streams::open(&rig.edge, &api_key).await;
    update(&other, "host", only("orchestrator")).await;
    let told = Instant::now();
    streams.end().await;
    let took = told.elapsed();
    assert!(took < SOON, "the streams ended after {took:?}");
    let refused = client
        .refusal("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(refused, "AGENT_MISMATCH");
    let renewal = json!({"token": token});
    assert_eq!(
        client.refusal("renew_permission", renewal).await,
        "AGENT_MISMATCH"
    );
    let score = async || {
        let asked = client.call("request_permission", asking("orchestrator"));
        asked.await["score"].as_u64().unwrap()
    };
    let trusted = score().await;
    let lesser = TermsChange {
        max_zone: Some(Zone::External),
        ..TermsChange::default()
    };
    update(&rig.control_plane, "host", lesser).await;
    let less = score().await;
    // 0.3 of the trust that is lost: 900 at this machine, 500 at most beyond it
    assert_eq!(trusted - less, 120);
    // with no agent left there is no session
    let refused = rig
        .edge
        .client(&rig.api_key)
        .refusal("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(refused, "AGENT_MISMATCH");
}

#[tokio::test]
async fn new_server_names_come_with_a_certificate_at_once() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let carries = |name: &str| {
        let stored: Value = serde_json::from_slice(&content(&rig.edge.identity())).unwrap();
        let leaf = stored["chain"][0].as_str().unwrap();
        let leaf = CertificateDer::from(BASE64_STANDARD.decode(leaf).unwrap());
        let leaf = ParsedCertificate::try_from(&leaf).unwrap();
        let name = name.to_owned().try_into().unwrap();
        rustls::client::verify_server_name(&leaf, &name).is_ok()
    };
    assert!(!carries("host.example.org"));
    let names = ["host.example.org", "10.0.0.7"];
    let change = TermsChange {
        server_names: Some(names.map(|name| ServerName::parse(name).unwrap()).into()),
        ..TermsChange::default()
    };
    update(&rig.control_plane, "host", change).await;
    until("the certificate carries the names", || {
        names.into_iter().all(carries)
    })
    .await;
    client.granted().await;
    let none = TermsChange {
        server_names: Some(Vec::new()),
        ..TermsChange::default()
    };
    update(&rig.control_plane, "host", none).await;
    until("the certificate carries no names", || {
        !names.into_iter().any(carries)
    })
    .await;
    client.granted().await;
}
