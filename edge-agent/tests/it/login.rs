//! Sessions by challenge and response, over HTTP.

use authguardian_proto::credential::{ApiKey, login_message};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use control_plane::{audit::Context, events::SuspensionTarget};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    audit::entries,
    edge::{Edge, asking, http, read},
    mcp::{answer, stateless},
    rig::{ControlPlane, Rig},
    wait::{DEADLINE, until_async},
};

/// A client that signs nonces with this key.
pub(crate) struct Client<'a> {
    edge: &'a Edge,
    key: ApiKey,
}

impl<'a> Client<'a> {
    pub(crate) fn new(edge: &'a Edge, key: &str) -> Self {
        Self {
            edge,
            key: key.parse().unwrap(),
        }
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.edge.url);
        read(http().post(url).json(&body).send().await.unwrap()).await
    }

    async fn nonce(&self) -> Vec<u8> {
        let asked = json!({"api_key_id": self.key.id()});
        let (status, challenge) = self.post("/auth/challenge", asked).await;
        assert_eq!(status, StatusCode::OK, "{challenge}");
        let nonce = STANDARD
            .decode(challenge["nonce"].as_str().unwrap())
            .unwrap();
        let message = STANDARD
            .decode(challenge["message"].as_str().unwrap())
            .unwrap();
        assert_eq!(message, login_message(&nonce));
        nonce
    }

    async fn open(&self, nonce: &[u8], signer: &ApiKey) -> (StatusCode, Value) {
        let body = json!({
            "api_key_id": self.key.id(),
            "nonce": STANDARD.encode(nonce),
            "signature": URL_SAFE_NO_PAD.encode(signer.sign_nonce(nonce).unwrap()),
        });
        self.post("/auth/session", body).await
    }

    /// A session, as the edge tells of it.
    pub(crate) async fn log_in(&self) -> Value {
        let nonce = self.nonce().await;
        let (status, session) = self.open(&nonce, &self.key).await;
        assert_eq!(status, StatusCode::CREATED, "{session}");
        session
    }
}

fn token(session: &Value) -> String {
    session["session_token"].as_str().unwrap().to_owned()
}

async fn with(edge: &Edge, method: Method, path: &str, credential: &str) -> Response {
    let request = http().request(method, format!("{}{path}", edge.url));
    request.bearer_auth(credential).send().await.unwrap()
}

/// Status and reason of a refused look at oneself.
async fn refusal(edge: &Edge, credential: &str) -> (u16, String) {
    let (status, body) = read(with(edge, Method::GET, "/auth/session", credential).await).await;
    let reason = body["reason"].as_str().unwrap_or_default().to_owned();
    (status.as_u16(), reason)
}

/// Opens streams of both kinds with a credential, and waits for their end.
async fn streams_end(edge: &Edge, credential: &str, end: impl Future<Output = ()>) {
    let mcp = |message: Value| {
        http()
            .post(format!("{}/mcp", edge.url))
            .header(header::ACCEPT, "application/json, text/event-stream")
            .bearer_auth(credential)
            .json(&message)
    };
    let begun = mcp(
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"}}}),
    );
    let begun = begun.send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::OK);
    let session = begun.headers()["mcp-session-id"].clone();
    let stream = http()
        .get(format!("{}/mcp", edge.url))
        .header(header::ACCEPT, "text/event-stream")
        .header("mcp-session-id", session)
        .header("mcp-protocol-version", "2025-11-25")
        .bearer_auth(credential)
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), StatusCode::OK);
    let listen = mcp(
        json!({"jsonrpc": "2.0", "id": 9, "method": "subscriptions/listen",
        "params": stateless(json!({"notifications": {"resourceSubscriptions": ["grants://active"]}}))}),
    );
    let listening = listen
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "subscriptions/listen")
        .send()
        .await
        .unwrap();
    assert_eq!(listening.status(), StatusCode::OK);
    end.await;
    let stream = tokio::time::timeout(DEADLINE, stream.bytes()).await;
    stream.unwrap().unwrap();
    let last = tokio::time::timeout(DEADLINE, answer(listening))
        .await
        .unwrap();
    assert_eq!(last["id"], 9, "{last}");
}

#[tokio::test]
async fn a_session_is_a_credential_until_its_holder_logs_out() {
    let rig = Rig::start().await;
    let client = Client::new(&rig.edge, &rig.api_key);
    let session = client.log_in().await;
    let id = session["session_id"].as_str().unwrap();
    assert!(id.starts_with("ses_"), "{session}");
    assert_eq!(session["agent_ids"], json!(["data_analyst"]));
    assert_eq!(
        (&session["validator"], &session["zone"]),
        (&json!(false), &json!("local_machine"))
    );
    let rest = rig.edge.client(&token(&session));
    let (_, grant) = rest.granted().await;
    assert_eq!(rest.validate(&grant).await["valid"], true);
    assert_eq!(
        rest.refusal("request_permission", asking("orchestrator"))
            .await,
        "AGENT_MISMATCH"
    );

    let who = with(&rig.edge, Method::GET, "/auth/session", &token(&session)).await;
    assert_eq!(who.headers()[header::CACHE_CONTROL], "no-store");
    let (_, who) = read(who).await;
    assert_eq!(who["session_id"], session["session_id"]);
    assert_eq!(who.get("session_token"), None);

    let renew = with(
        &rig.edge,
        Method::POST,
        "/auth/session/renew",
        &token(&session),
    )
    .await;
    let (status, renewed) = read(renew).await;
    assert_eq!(
        (status, &renewed["session_id"]),
        (StatusCode::CREATED, &session["session_id"])
    );
    for token in [token(&session), token(&renewed)] {
        assert_eq!(refusal(&rig.edge, &token).await, (200, String::new()));
    }

    streams_end(&rig.edge, &token(&renewed), async {
        let end = with(&rig.edge, Method::DELETE, "/auth/session", &token(&session)).await;
        assert_eq!(end.status(), StatusCode::NO_CONTENT);
    })
    .await;
    for token in [token(&session), token(&renewed)] {
        assert_eq!(
            refusal(&rig.edge, &token).await,
            (401, "SESSION_EXPIRED".into())
        );
    }
    let control_plane = &rig.control_plane;
    for action in ["session.create", "session.renew", "session.end"] {
        let told = entries(control_plane, (action, ""), 1).await;
        assert!(
            told.iter().any(|entry| entry.subject == id),
            "{action}: {told:#?}"
        );
    }
    let made = entries(control_plane, ("session.create", ""), 1).await;
    assert_eq!(
        made[0].peer_address.as_deref(),
        Some("127.0.0.1"),
        "the client's"
    );
    entries(control_plane, ("session.read", "SESSION_EXPIRED"), 2).await;
    assert!(
        rig.edge.client(&rig.api_key).granted().await.1.len() > 10,
        "the key stands"
    );
}

#[tokio::test]
async fn a_nonce_that_was_used_has_expired_or_was_signed_by_another_key_gives_no_session() {
    let rig = Rig::start().await;
    let client = Client::new(&rig.edge, &rig.api_key);
    let foreign = rig.control_plane.api_key(&["data_analyst"], false).await;
    let foreign: ApiKey = foreign.parse().unwrap();
    let elsewhere = Edge::start(&rig.control_plane, "elsewhere").await;
    let told = |(status, body): (StatusCode, Value)| {
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{body}");
        body["reason"].as_str().unwrap().to_owned()
    };

    let nonce = client.nonce().await;
    let (made, _) = client.open(&nonce, &client.key).await;
    assert_eq!(made, StatusCode::CREATED);
    assert_eq!(told(client.open(&nonce, &client.key).await), "NONCE_USED");

    let nonce = client.nonce().await;
    assert_eq!(
        told(client.open(&nonce, &foreign).await),
        "SIGNATURE_INVALID"
    );
    assert_eq!(
        told(client.open(&nonce, &client.key).await),
        "NONCE_USED",
        "a wrong signature has spent it"
    );

    let nonce = client.nonce().await;
    let mut connection = rig.control_plane.app.db.begin().await.unwrap();
    sqlx::query("UPDATE login_nonce SET expires_at = now() - interval '1 second' WHERE nonce = $1")
        .bind(&nonce)
        .execute(&mut *connection)
        .await
        .unwrap();
    connection.commit().await.unwrap();
    assert_eq!(
        told(client.open(&nonce, &client.key).await),
        "NONCE_EXPIRED"
    );

    let nonce = Client::new(&elsewhere, &rig.api_key).nonce().await;
    assert_eq!(
        told(client.open(&nonce, &client.key).await),
        "NONCE_EXPIRED",
        "it was made for another machine"
    );
    let unknown = ApiKey::new("apk_0000000000000000000001".parse().unwrap(), [1; 32]);
    let asked = json!({"api_key_id": unknown.id()});
    assert_eq!(
        told(client.post("/auth/challenge", asked).await),
        "API_KEY_UNKNOWN"
    );

    for (action, reason, calls) in [
        ("login.session", "NONCE_USED", 2),
        ("login.session", "SIGNATURE_INVALID", 1),
        ("login.session", "NONCE_EXPIRED", 2),
        ("login.challenge", "API_KEY_UNKNOWN", 1),
    ] {
        for entry in entries(&rig.control_plane, (action, reason), calls).await {
            assert_eq!(
                (entry.caller.as_str(), entry.outcome.as_str()),
                ("anonymous", "refused")
            );
            assert_eq!(entry.peer_address.as_deref(), Some("127.0.0.1"));
            assert!(entry.subject.starts_with("apk_"), "{entry:#?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_login_is_refused_by_its_field() {
    let rig = Rig::start().await;
    let client = Client::new(&rig.edge, &rig.api_key);
    let id = client.key.id();
    let (nonce, signature) = (STANDARD.encode([1; 32]), STANDARD.encode([1; 64]));
    for (path, body, field) in [
        ("/auth/challenge", json!({}), "api_key_id"),
        (
            "/auth/challenge",
            json!({"api_key_id": "agk_x"}),
            "api_key_id",
        ),
        (
            "/auth/challenge",
            json!({"api_key_id": id, "nonce": nonce}),
            "nonce",
        ),
        (
            "/auth/session",
            json!({"api_key_id": id, "signature": signature}),
            "nonce",
        ),
        (
            "/auth/session",
            json!({"api_key_id": id, "nonce": nonce, "signature": nonce}),
            "signature",
        ),
        (
            "/auth/session",
            json!({"api_key_id": id, "nonce": 7, "signature": signature}),
            "nonce",
        ),
    ] {
        let (status, refused) = client.post(path, body.clone()).await;
        assert_eq!(
            (status.as_u16(), &refused["field"]),
            (400, &json!(field)),
            "{body}"
        );
    }
    let key = &rig.api_key;
    let renew = with(&rig.edge, Method::POST, "/auth/session/renew", key).await;
    assert_eq!(
        renew.status(),
        StatusCode::BAD_REQUEST,
        "a key has no session of its own"
    );
    let (status, who) = read(with(&rig.edge, Method::GET, "/auth/session", key).await).await;
    assert_eq!((status, &who["api_key_id"]), (StatusCode::OK, &json!(id)));
    assert_eq!(who.get("session_id"), None);
}

#[tokio::test]
async fn a_stolen_session_is_of_no_use_at_another_machine() {
    let rig = Rig::start().await;
    let elsewhere = Edge::start(&rig.control_plane, "elsewhere").await;
    let session = Client::new(&rig.edge, &rig.api_key).log_in().await;
    let stolen = token(&session);
    assert_eq!(
        refusal(&elsewhere, &stolen).await,
        (401, "UNAUTHENTICATED".into())
    );
    let (status, body) = elsewhere
        .client(&stolen)
        .try_call("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(
        body["detail"].as_str().unwrap().contains("another machine"),
        "{body}"
    );
    let at_the_edge = entries(
        &rig.control_plane,
        ("tool.request_permission", "UNAUTHENTICATED"),
        1,
    )
    .await;
    assert_eq!(
        at_the_edge[0].subject, session["api_key_id"],
        "whose it claims to be"
    );
    assert_eq!(at_the_edge[0].key_id, None);
    let at_the_control_plane =
        entries(&rig.control_plane, ("call.refuse", "UNAUTHENTICATED"), 2).await;
    for entry in &at_the_control_plane {
        assert!(entry.subject.ends_with("/GetSession"), "{entry:#?}");
        assert_eq!(entry.machine_id, at_the_edge[0].machine_id);
    }
    assert_eq!(
        refusal(&rig.edge, &stolen).await,
        (200, String::new()),
        "its own holder goes on"
    );
}

#[tokio::test]
async fn a_session_is_of_no_use_from_a_zone_that_is_trusted_less() {
    let rig = Rig::start().await;
    let client = Client::new(&rig.edge, &rig.api_key);
    let session = client.log_in().await;
    // nobody has told the edge of this proxy
    let from_beyond = |path: &str, body: Value| {
        http()
            .post(format!("{}{path}", rig.edge.url))
            .header("x-forwarded-for", "192.0.2.7")
            .json(&body)
    };
    let stolen = from_beyond("/mcp/tools/request_permission", asking("data_analyst"))
        .bearer_auth(token(&session));
    let (status, body) = read(stolen.send().await.unwrap()).await;
    assert_eq!(
        (status, &body["reason"]),
        (StatusCode::FORBIDDEN, &json!("ZONE_FORBIDS"))
    );
    let told = entries(
        &rig.control_plane,
        ("tool.request_permission", "ZONE_FORBIDS"),
        1,
    )
    .await;
    assert_eq!(told[0].zone.as_deref(), Some("external"));
    assert_eq!(told[0].subject, session["api_key_id"]);

    let nonce = client.nonce().await;
    let signed = json!({
        "api_key_id": client.key.id(),
        "nonce": STANDARD.encode(&nonce),
        "signature": STANDARD.encode(client.key.sign_nonce(&nonce).unwrap()),
    });
    let made = from_beyond("/auth/session", signed);
    let (status, session) = read(made.send().await.unwrap()).await;
    assert_eq!(
        (status, &session["zone"]),
        (StatusCode::CREATED, &json!("external"))
    );
    let (_, who) =
        read(with(&rig.edge, Method::GET, "/auth/session", &token(&session)).await).await;
    assert_eq!(
        who["zone"], "external",
        "it gains nothing from a better place"
    );
}

#[tokio::test]
async fn a_suspended_agents_key_logs_in_and_gets_nothing() {
    let rig = Rig::start().await;
    let session = Client::new(&rig.edge, &rig.api_key).log_in().await;
    let target = SuspensionTarget::Agent("data_analyst".parse().unwrap());
    let grants = &rig.control_plane.app.grants;
    let suspended = grants.suspend(Context::system(), target, "drill").await;
    suspended.unwrap();
    let later = Client::new(&rig.edge, &rig.api_key).log_in().await;
    for credential in [token(&session), token(&later), rig.api_key.clone()] {
        let client = rig.edge.client(&credential);
        let denied = client
            .call("request_permission", asking("data_analyst"))
            .await;
        assert_eq!(denied["decision"], "denied", "{denied}");
        assert!(
            denied["reasons"].to_string().contains("SUSPENDED"),
            "{denied}"
        );
    }
    entries(&rig.control_plane, ("grant.request", "SUSPENDED"), 3).await;
}

#[tokio::test]
async fn sessions_and_streams_end_with_their_key() {
    let rig = Rig::start().await;
    let (id, key) = rig
        .control_plane
        .api_key_with_id(&["data_analyst"], false)
        .await;
    let session = Client::new(&rig.edge, &key).log_in().await;
    streams_end(
        &rig.edge,
        &token(&session),
        rig.control_plane.revoke_api_key(id),
    )
    .await;
    assert_eq!(
        refusal(&rig.edge, &token(&session)).await,
        (401, "API_KEY_REVOKED".into())
    );
    entries(&rig.control_plane, ("session.read", "API_KEY_REVOKED"), 1).await;
}

#[tokio::test]
async fn streams_end_when_their_session_or_the_key_itself_runs_out() {
    let rig = Rig::start().await;
    let key = short_lived(&rig.control_plane).await;
    let session = Client::new(&rig.edge, &key).log_in().await;
    streams_end(&rig.edge, &token(&session), async {}).await;
    let (status, reason) = refusal(&rig.edge, &token(&session)).await;
    assert_eq!(status, 401);
    assert!(
        ["SESSION_EXPIRED", "API_KEY_EXPIRED"].contains(&reason.as_str()),
        "{reason}"
    );

    let key = short_lived(&rig.control_plane).await;
    streams_end(&rig.edge, &key, async {}).await;
    assert_eq!(
        refusal(&rig.edge, &key).await,
        (401, "API_KEY_EXPIRED".into())
    );
}

/// A key that ends in a few seconds.
async fn short_lived(control_plane: &ControlPlane) -> String {
    let ends = control_plane.app.ambient.clock.now() + time::Duration::seconds(6);
    let key = control_plane.api_key_until(&["data_analyst"], false, Some(ends));
    key.await.1
}

#[tokio::test]
async fn a_session_outlives_the_edge_and_an_outage() {
    let rig = Rig::start().await;
    let session = Client::new(&rig.edge, &rig.api_key).log_in().await;
    let edge = rig.edge.kill_and_run().await;
    // an edge that knows nothing of it asks
    assert_eq!(refusal(&edge, &token(&session)).await, (200, String::new()));
    let renew = with(&edge, Method::POST, "/auth/session/renew", &token(&session)).await;
    let (_, renewed) = read(renew).await;
    assert_eq!(renewed["session_id"], session["session_id"]);
    let stopped = rig.control_plane.stop().await;
    until_async("the edge knows that it is cut off", async || {
        let ready = http().get(format!("{}/readyz", edge.url)).send().await;
        ready.unwrap().status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(
        refusal(&edge, &token(&renewed)).await,
        (200, String::new()),
        "kept while nobody can be asked"
    );
    let renew = with(&edge, Method::POST, "/auth/session/renew", &token(&renewed)).await;
    let (status, body) = read(renew).await;
    assert!(!status.is_success(), "{body}");
    let back = stopped.start().await;
    until_async("the edge has found back", async || {
        let end = with(&edge, Method::DELETE, "/auth/session", &token(&renewed)).await;
        // a try whose reply was lost may have ended it
        [StatusCode::NO_CONTENT, StatusCode::UNAUTHORIZED].contains(&end.status())
    })
    .await;
    assert_eq!(
        refusal(&edge, &token(&session)).await,
        (401, "SESSION_EXPIRED".into())
    );
    drop(back);
}
