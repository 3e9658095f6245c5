//! A whole run of the real programs, and a search for every secret that was
//! used in it.

use std::{fs, path::Path};

use authguardian_proto::credential::ApiKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use control_plane::identity::seal::{MasterKeyId, MasterKeys, Sealed};
use reqwest::Method;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::{
    memory,
    search::{Search, Secrets},
    system::System,
};
use crate::{
    edge::{RestClient, asking, http, read},
    wait::until_async,
};

#[tokio::test]
async fn no_secret_of_a_whole_run_is_found_where_it_does_not_belong() {
    let mut system = System::start().await;
    let mut secrets = Used::default();
    let key = run(&mut system, &mut secrets).await;
    let Used {
        mut credentials,
        tokens,
        own_keys,
    } = secrets;
    credentials.text("master key", &system.master_key);

    let mut everything = credentials.clone();
    everything.extend(tokens.clone());
    let not_the_machines = everything.clone();
    everything.extend(own_keys);
    let everything = everything.search();
    // a search that would find nothing must not pass
    assert!(!everything.within(key.as_bytes()).is_empty());

    let mut found = Vec::new();
    let mut look = |place: &str, hits: Vec<String>| {
        found.extend(hits.into_iter().map(|hit| format!("{place}: {hit}")));
    };
    look("database", in_tables(&system, &everything).await);
    look(
        "metrics",
        everything.within(metrics(&system).await.as_bytes()),
    );
    look("verbs", everything.within(system.said.as_bytes()));
    let audit = system.operate(&["audit", "tail", "-n", "10000"]).await;
    look("audit", everything.within(audit.to_string().as_bytes()));
    let edge = system.edge.as_ref().unwrap();
    for daemon in [&system.control_plane, edge] {
        let log = fs::read(&daemon.log).unwrap();
        assert!(log.len() > 100_000, "the log is not as loud as it gets");
        look("log", everything.within(&log));
        let command_line = fs::read(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
        look("command line", everything.within(&command_line));
    }
    look(
        "PostgreSQL's files",
        in_files(&system.files.path().join("postgres"), &everything),
    );
    // the machine's own key is kept there
    look(
        "the edge's files",
        in_files(&system.edge_dir(), &not_the_machines.search()),
    );
    // those who have connections keep what came last on them, tokens among it
    let credentials = credentials.search();
    look(
        "the control plane's memory",
        memory::find(system.control_plane.pid(), &credentials),
    );
    look("the edge's memory", memory::find(edge.pid(), &credentials));
    assert!(
        found.is_empty(),
        "{} places:\n{}",
        found.len(),
        found.join("\n")
    );
    system.postgres.stop().await;
}

/// The secrets of a run.
#[derive(Default)]
struct Used {
    /// What people, agents and machines prove themselves with.
    credentials: Secrets,
    /// What was signed for them.
    tokens: Secrets,
    /// The private keys of the control plane and of the machine.
    own_keys: Secrets,
}

/// What agents and operators do. Returns an API key that is still good.
async fn run(system: &mut System, used: &mut Used) -> String {
    used.credentials
        .credential("first admin token", &system.admin_token);
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    for agent in ["data_analyst", "orchestrator"] {
        system
            .operate(&["agent", "put", agent, "--trust", "800"])
            .await;
    }
    let made = [
        "admin-token",
        "create",
        "--name",
        "second",
        "--role",
        "operator",
    ];
    let operator = text(&system.operate(&made).await, "admin_token");
    used.credentials.credential("operator's token", &operator);
    let made = ["join-token", "create", "--machine", "host"];
    let join = text(&system.operate_as(&operator, &made).await, "join_token");
    used.credentials.credential("join token", &join);
    let unused = ["join-token", "create", "--machine", "other"];
    let unused = text(&system.operate_as(&operator, &unused).await, "join_token");
    used.credentials.credential("unused join token", &unused);
    let url = system.run_edge(&join).await;

    let mut keys = api_keys(system, used).await;
    let clients: Vec<RestClient> = keys
        .iter()
        .map(|(key, _)| RestClient::at(&url, key))
        .collect();
    for client in &clients {
        grants(client, &mut used.tokens).await;
    }
    session(&url, &keys[0].0, used).await;
    let _stream = stream(&clients[0], used).await;
    let pem = system.files.path().join("console.pem");
    let pem = pem.to_str().unwrap();
    let made = [
        "admin-token",
        "create",
        "--name",
        "console",
        "--role",
        "viewer",
        "--certificate",
        pem,
    ];
    system.operate(&made).await;
    let text = fs::read(pem).unwrap();
    let key = PrivatePkcs8KeyDer::from_pem_slice(&text).unwrap();
    used.own_keys
        .private_key("admin's key", key.secret_pkcs8_der());
    for verb in ["suspend", "resume"] {
        system
            .operate(&[verb, "--agent", "orchestrator", "--yes"])
            .await;
    }
    for verb in ["ban", "unban"] {
        system.operate(&["machine", verb, "host"]).await;
    }
    // the edge logs in again when it may
    until_async("the machine is served again", async || {
        let call = clients[0].try_call("request_permission", asking("data_analyst"));
        call.await.0.is_success()
    })
    .await;
    // those that are rotated out leave the database
    own_keys(system, &mut used.own_keys).await;
    for purpose in ["grant", "session"] {
        system
            .operate(&["key", "rotate", "--purpose", purpose])
            .await;
        grants(&clients[0], &mut used.tokens).await;
    }
    system.operate(&["api-key", "revoke", &keys[1].1]).await;
    let refused = clients[1]
        .refusal("request_permission", asking("data_analyst"))
        .await;
    assert_eq!(refused, "API_KEY_REVOKED");
    system
        .operate(&["grant", "revoke", "--agent", "data_analyst"])
        .await;
    list_everything(system).await;
    own_keys(system, &mut used.own_keys).await;
    keys.swap_remove(0).0
}

/// Two API keys of an agent, each with its id.
async fn api_keys(system: &mut System, used: &mut Used) -> Vec<(String, String)> {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    let mut keys = Vec::new();
    for name in ["good", "revoked"] {
        let made = [
            "api-key",
            "create",
            "--name",
            name,
            "--agent",
            "data_analyst",
            "--validator",
        ];
        let made = system.operate(&made).await;
        let key = text(&made, "api_key");
        used.credentials
            .credential(&format!("{name} API key"), &key);
        keys.push((key, text(&made["info"], "id")));
    }
    keys
}

/// What operators look at.
async fn list_everything(system: &mut System) {
    let listed = [
        "machine list",
        "api-key list",
        "admin-token list",
        "join-token list",
        "grant list",
        "key list",
        "status",
    ];
    for verb in listed {
        let verb: Vec<_> = verb.split(' ').collect();
        system.operate(&verb).await;
    }
}

/// A session by challenge and response, used, renewed and ended.
async fn session(url: &str, key: &str, used: &mut Used) {
    let key: ApiKey = key.parse().unwrap();
    let post = async |path: &str, body: Value| {
        let request = http().post(format!("{url}{path}")).json(&body);
        let (status, body) = read(request.send().await.unwrap()).await;
        assert!(status.is_success(), "{body}");
        body
    };
    let asked = json!({"api_key_id": key.id()});
    let challenge = post("/auth/challenge", asked).await;
    let nonce = STANDARD
        .decode(challenge["nonce"].as_str().unwrap())
        .unwrap();
    let signature = key.sign_nonce(&nonce).unwrap();
    let proof = json!({"api_key_id": key.id(), "nonce": challenge["nonce"], "signature": STANDARD.encode(&signature)});
    used.credentials.bytes("signature over a nonce", &signature);
    let made = post("/auth/session", proof).await;
    let token = made["session_token"].as_str().unwrap();
    used.tokens.token("session token", token);
    RestClient::at(url, token).granted().await;
    let at = |method: Method, path: &str, token: &str| {
        http()
            .request(method, format!("{url}{path}"))
            .bearer_auth(token)
            .send()
    };
    let renewed = at(Method::POST, "/auth/session/renew", token)
        .await
        .unwrap();
    let (_, renewed) = read(renewed).await;
    let renewed = renewed["session_token"].as_str().unwrap();
    used.tokens.token("renewed session token", renewed);
    let ended = at(Method::DELETE, "/auth/session", renewed).await.unwrap();
    assert_eq!(ended.status(), 204);
}

/// A stream that was begun with a ticket, for as long as the answer is kept.
async fn stream(client: &RestClient, used: &mut Used) -> reqwest::Response {
    let made = http()
        .post(format!("{}/auth/ticket", client.url))
        .bearer_auth(&client.api_key);
    let (_, made) = read(made.send().await.unwrap()).await;
    let ticket = made["ticket"].as_str().unwrap();
    used.credentials.credential("stream ticket", ticket);
    let mut stream = http()
        .get(format!("{}/events?ticket={ticket}", client.url))
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    stream.chunk().await.unwrap();
    stream
}

/// A grant that is renewed, checked in both ways, and ended.
async fn grants(client: &RestClient, tokens: &mut Secrets) {
    let (_, token) = client.granted().await;
    tokens.token("grant token", &token);
    let renewed = client
        .call("renew_permission", json!({"token": token}))
        .await;
    let renewed = renewed["token"].as_str().unwrap();
    tokens.token("renewed grant token", renewed);
    for consistency in ["bounded", "strong"] {
        let mut check =
            json!({"token": renewed, "agent_id": "data_analyst", "resource_type": "SAP_API"});
        check["consistency"] = consistency.into();
        assert_eq!(client.call("validate_token", check).await["valid"], true);
    }
    let checked = client
        .mcp_call(
            "validate_token",
            json!({"token": renewed, "agent_id": "data_analyst", "resource_type": "SAP_API"}),
        )
        .await;
    assert!(checked.contains("\"valid\":true"), "{checked}");
    client.call("revoke_token", json!({"token": renewed})).await;
    let (status, _) = client
        .try_call("request_permission", asking("orchestrator"))
        .await;
    assert_eq!(status, 403);
    client.granted().await;
}

/// The keys of the control plane, opened, and of the machine.
async fn own_keys(system: &System, secrets: &mut Secrets) {
    let master = MasterKeys::from_file(&system.files.path().join("master.key")).unwrap();
    let mut connection = PgConnection::connect(&system.postgres.url()).await.unwrap();
    let rows =
        sqlx::query("SELECT id, purpose, sealed, master_key_id FROM own_key WHERE sealed <> ''")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    assert!(rows.len() >= 3, "{} keys", rows.len());
    for row in rows {
        let id = authguardian_proto::ids::SigningKeyId::from_uuid(row.get("id"));
        let under: Option<String> = row.get("master_key_id");
        let sealed = Sealed {
            master_key: under.map(MasterKeyId::from_stored),
            bytes: row.get("sealed"),
        };
        let opened = master.open(id, &sealed).unwrap();
        secrets.private_key(&format!("{} key", row.get::<String, _>("purpose")), &opened);
    }
    connection.close().await.unwrap();
    let identity = fs::read(system.edge_dir().join("identity/machine.json")).unwrap();
    let identity: Value = serde_json::from_slice(&identity).unwrap();
    let key = STANDARD.decode(identity["key"].as_str().unwrap()).unwrap();
    secrets.private_key("machine key", &key);
}

/// Every row of every table, as text: bytea is written in hex.
async fn in_tables(system: &System, search: &Search) -> Vec<String> {
    let mut connection = PgConnection::connect(&system.postgres.url()).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let mut found = Vec::new();
    let mut rows = 0;
    for table in &tables {
        let query = format!("SELECT t::text FROM \"{table}\" t");
        let text: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        rows += text.len();
        let hits = search.within(text.join("\n").as_bytes());
        found.extend(hits.into_iter().map(|hit| format!("{table}: {hit}")));
    }
    assert!(tables.len() > 10 && rows > 50, "{rows} rows of {tables:?}");
    sqlx::query("CHECKPOINT")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    found
}

/// Every file beneath a directory.
fn in_files(dir: &Path, search: &Search) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(in_files(&path, search));
        } else if path.is_file() {
            let hits = search.within(&fs::read(&path).unwrap());
            found.extend(
                hits.into_iter()
                    .map(|hit| format!("{}: {hit}", path.display())),
            );
        }
    }
    found
}

async fn metrics(system: &System) -> String {
    let url = format!("http://{}/metrics", system.address("http"));
    let text = crate::edge::http().get(url).send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(text.contains("authguardian_grpc_requests_total"), "{text}");
    text
}
