//! The operator verbs of the command line, run as processes against a control
//! plane that serves.

use std::{fs, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use authguardian_proto::{
    credential,
    ids::{AdminTokenId, ApiKeyId, JoinTokenId},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use control_plane::{
    identity::Role,
    metrics::Metrics,
    serve::{Addresses, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::{
    rig::{Rig, admin, ask},
    wait::DEADLINE,
};

/// A control plane that serves, and an operator's shell.
pub(crate) struct Operator {
    pub(crate) rig: Rig,
    addresses: Addresses,
    files: TempDir,
}

/// What a command came to.
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Operator {
    pub(crate) async fn start() -> Self {
        let rig = Rig::open_now().await;
        let server = Server::bind(&rig.config).await.unwrap();
        let addresses = server.addresses;
        let (app, metrics) = (Arc::clone(&rig.app), Metrics::new(rig.app.started_at));
        tokio::spawn(async move { Box::pin(server.run(app, metrics)).await.unwrap() });
        let files = tempfile::tempdir().unwrap();
        let certificate = BASE64_STANDARD.encode(rig.app.identity.keyring().ca().certificate());
        let pem =
            format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
        fs::write(files.path().join("ca.pem"), pem).unwrap();
        let operator = Self {
            rig,
            addresses,
            files,
        };
        fs::write(
            operator.path("admin-token"),
            operator.token(Role::Admin).await,
        )
        .unwrap();
        operator
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    async fn token(&self, role: Role) -> String {
        let made = self
            .rig
            .app
            .identity
            .create_admin_token(admin(), role.as_str(), role, None)
            .await;
        made.unwrap().0.unwrap().to_string()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command
            .args(args)
            .env(
                "AUTHGUARDIAN_SERVER",
                format!("https://{}", self.addresses.admin_grpc),
            )
            .env("AUTHGUARDIAN_CA_FILE", self.path("ca.pem"))
            .env(
                "AUTHGUARDIAN_ADMIN_TOKEN",
                fs::read_to_string(self.path("admin-token")).unwrap(),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Told {
        told(self.command(args)).await
    }

    /// Runs a command that has to succeed, and reads its JSON.
    pub(crate) async fn json(&self, args: &[&str]) -> Value {
        let told = self.run(&[args, &["-o", "json"]].concat()).await;
        assert_eq!(told.code, 0, "{args:?}: {}", told.stderr);
        serde_json::from_str(&told.stdout).unwrap()
    }

    /// Runs a command that has to fail, and reads exit code and reason.
    pub(crate) async fn refused(&self, args: &[&str]) -> (i32, String) {
        let told = self.run(&[args, &["-o", "json"]].concat()).await;
        assert_eq!(told.stdout, "", "{args:?}");
        let problem: Value = serde_json::from_str(&told.stderr).unwrap();
        (told.code, problem["reason"].as_str().unwrap().to_owned())
    }
}

pub(crate) async fn told(mut command: Command) -> Told {
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .unwrap()
        .unwrap();
    Told {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[tokio::test]
async fn an_agent_is_put_shown_listed_and_deleted() {
    let operator = Operator::start().await;
    let put = operator
        .json(&["agent", "put", "scout", "--trust", "0.85"])
        .await;
    assert_eq!(put["trust"], 850);
    let shown = operator.json(&["agent", "show", "scout"]).await;
    assert_eq!(shown, put);
    let listed = operator.json(&["agent", "list"]).await;
    assert_eq!(listed["items"][0], put);
    assert_eq!(listed.get("next_page_token"), None);
    let table = operator.run(&["agent", "list"]).await.stdout;
    assert!(
        table.starts_with("AGENT  TRUST  UPDATED"),
        "no borders, no colours: {table}"
    );
    assert_eq!(operator.run(&["agent", "delete", "scout"]).await.code, 0);
    let refused = operator.refused(&["agent", "show", "scout"]).await;
    assert_eq!(refused, (3, "UNKNOWN_AGENT".to_owned()));
}

#[tokio::test]
async fn a_public_key_that_is_there_already_is_registered_by_its_file() {
    let operator = Operator::start().await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let file = operator.path("public.pem");
    fs::write(&file, key.public_key_pem()).unwrap();
    let create = [
        "api-key",
        "create",
        "--name",
        "mine",
        "--agent",
        "data_analyst",
    ];
    let create = [&create[..], &["--public-key-file", file.to_str().unwrap()]].concat();
    let made = operator.run(&create).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let id: ApiKeyId = made.stdout.trim().parse().unwrap();
    let registered = operator.rig.app.identity.list_api_keys(None, 10).await;
    let registered = registered.unwrap().pop().unwrap();
    assert_eq!(registered.id, id);
    assert_eq!(registered.public_key[..], *key.public_key_raw());
    assert_eq!(
        operator.refused(&create).await,
        (2, "INVALID_ARGUMENT".to_owned()),
        "once"
    );

    fs::write(&file, key.serialize_pem()).unwrap();
    let private = operator.run(&create).await;
    assert_eq!(private.code, 2);
    assert!(
        private.stderr.contains("no public key"),
        "{}",
        private.stderr
    );
}

#[tokio::test]
async fn a_made_api_key_is_complete_and_only_its_public_half_is_registered() {
    let operator = Operator::start().await;
    let told = operator
        .run(&[
            "api-key",
            "create",
            "--name",
            "ci",
            "--agent",
            "scout",
            "--agent",
            "critic",
            "--validator",
            "--expires-in",
            "30d",
        ])
        .await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    // nothing else on stdout, so that a shell can take it
    let key: credential::ApiKey = told.stdout.trim_end().parse().unwrap();
    assert!(!told.stderr.contains(told.stdout.trim_end()));
    let registered = operator.rig.app.identity.list_api_keys(None, 10).await;
    let registered = registered.unwrap().remove(0);
    assert_eq!(
        (registered.id, Some(registered.public_key)),
        (key.id(), key.public_key())
    );
    assert!(registered.validator && registered.expires_at.is_some());

    let id = key.id().to_string();
    let revoked = operator.json(&["api-key", "revoke", &id]).await;
    assert!(revoked["revoked_at"].is_string());
    let unknown = ApiKeyId::from_uuid(uuid::Uuid::from_u128(7)).to_string();
    let refused = operator.refused(&["api-key", "revoke", &unknown]).await;
    assert_eq!(refused, (3, "API_KEY_UNKNOWN".to_owned()));
    let unknown = AdminTokenId::from_uuid(uuid::Uuid::from_u128(7)).to_string();
    let refused = operator.refused(&["admin-token", "revoke", &unknown]).await;
    assert_eq!(refused, (3, "INVALID_ARGUMENT".to_owned()));
}

#[tokio::test]
async fn limits_of_an_api_key_are_given_changed_and_shown() {
    let operator = Operator::start().await;
    let create = async |more: &[&str]| -> String {
        let create = ["api-key", "create", "--name", "ci", "--agent", "scout"];
        let made = operator.json(&[&create[..], more].concat()).await;
        made["info"]["id"].as_str().unwrap().to_owned()
    };
    let id = create(&[]).await;
    let shown = operator.json(&["api-key", "show", &id]).await;
    assert_eq!(shown["rate_limit"], "100/200", "{shown}");
    assert_eq!(shown["tool_rate_limits"], json!({}));
    assert_eq!(shown["allowed_networks"], json!([]));
    let id = create(&["--no-rate-limit"]).await;
    let shown = operator.json(&["api-key", "show", &id]).await;
    assert_eq!(shown["rate_limit"], Value::Null, "{shown}");

    let more = [
        "--rate=20/40",
        "--tool-rate=validate_token=5",
        "--allow-network=10.1.2.3/8",
        "--allow-network=192.0.2.7",
    ];
    let id = create(&more).await;
    let shown = operator.json(&["api-key", "show", &id]).await;
    assert_eq!(shown["rate_limit"], "20/40", "{shown}");
    assert_eq!(shown["tool_rate_limits"], json!({"validate_token": "5/10"}));
    assert_eq!(
        shown["allowed_networks"],
        json!(["10.0.0.0/8", "192.0.2.7/32"])
    );

    let set = [
        "api-key",
        "set",
        &id,
        "--no-rate-limit",
        "--no-tool-rate=validate_token",
        "--tool-rate=revoke_token=1/1",
        "--any-network",
    ];
    let changed = operator.json(&set).await;
    assert_eq!(changed["rate_limit"], Value::Null, "{changed}");
    assert_eq!(changed["tool_rate_limits"], json!({"revoke_token": "1/1"}));
    assert_eq!(changed["allowed_networks"], json!([]));
    let kept = operator.json(&["api-key", "set", &id, "--rate=7/9"]).await;
    assert_eq!(kept["rate_limit"], "7/9");
    assert_eq!(kept["tool_rate_limits"], json!({"revoke_token": "1/1"}));

    for wrong in [
        &["--rate=0/1"][..],
        &["--rate=1"; 2],
        &["--rate=1/2000000"],
        &["--rate=1", "--no-rate-limit"],
        &["--tool-rate=no_such_tool=1/1"],
        &["--no-tool-rate=no_such_tool"],
        &["--tool-rate=revoke_token=1", "--no-tool-rate=revoke_token"],
        &["--tool-rate=revoke_token=1", "--tool-rate=revoke_token=2"],
        &["--allow-network=10.0.0.0/33"],
        &["--allow-network=::1", "--any-network"],
        &[],
    ] {
        let told = operator
            .run(&[&["api-key", "set", &id], wrong].concat())
            .await;
        assert_eq!(told.code, 2, "{wrong:?}: {}", told.stderr);
    }
    let unknown = ApiKeyId::from_uuid(uuid::Uuid::from_u128(7)).to_string();
    for refused in [
        operator.refused(&["api-key", "show", &unknown]).await,
        operator
            .refused(&["api-key", "set", &unknown, "--rate=1"])
            .await,
    ] {
        assert_eq!(refused, (3, "API_KEY_UNKNOWN".to_owned()));
    }
}

#[tokio::test]
async fn a_secret_is_told_once_and_a_repeat_says_so() {
    let operator = Operator::start().await;
    let create = [
        "join-token",
        "create",
        "--machine",
        "build-7",
        "--request-id",
        "r-1",
    ];
    let made = operator.json(&create).await;
    let token: credential::JoinToken = made["join_token"].as_str().unwrap().parse().unwrap();
    let listed = operator.json(&["join-token", "list"]).await;
    let id: JoinTokenId = listed["items"][0]["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id, token.id());
    assert!(listed.to_string().find("agj_").is_none());
    assert_eq!(
        operator.refused(&create).await,
        (7, "OUTCOME_UNKNOWN".to_owned())
    );
    let other = [
        "join-token",
        "create",
        "--machine",
        "build-8",
        "--request-id",
        "r-1",
    ];
    assert_eq!(
        operator.refused(&other).await,
        (5, "REQUEST_ID_REUSED".to_owned())
    );
}

#[tokio::test]
async fn a_grant_is_listed_shown_with_its_facts_and_revoked() {
    let operator = Operator::start().await;
    let session = operator.rig.analyst().await;
    let decision = operator.rig.request(&session, ask(&session)).await.unwrap();
    let id = decision.record.id.to_string();
    let listed = operator
        .json(&[
            "grant",
            "list",
            "--agent",
            "data_analyst",
            "--machine",
            "host-of-data-analyst",
            "--state",
            "active",
        ])
        .await;
    assert_eq!(listed["items"][0]["id"], id.as_str());
    let shown = operator.json(&["grant", "show", &id]).await;
    assert_eq!(shown["score"]["total"], 570);
    assert_eq!(shown["zone"], "local_machine");
    assert!(shown["facts"].is_object());

    let revoked = operator
        .json(&["grant", "revoke", "--agent", "data_analyst"])
        .await;
    assert_eq!(revoked["ended"], 1);
    assert!(revoked["position"]["revision"].is_u64());
    let shown = operator.json(&["grant", "show", &id]).await;
    assert_eq!(shown["state"], "revoked");
    let again = operator.json(&["grant", "revoke", &id]).await;
    assert_eq!(again["ended"], 0, "it was ended before");
    let none = operator.json(&["grant", "list", "--state", "active"]).await;
    assert_eq!(none["items"], serde_json::json!([]));
}

#[tokio::test]
async fn one_grant_is_ended_once_and_a_repeat_gets_the_first_answer() {
    let operator = Operator::start().await;
    let session = operator.rig.analyst().await;
    let decision = operator.rig.granted(&session).await;
    let id = decision.record.id.to_string();
    let revoke = ["grant", "revoke", &id, "--request-id", "r-1"];
    let first = operator.json(&revoke).await;
    assert_eq!(first["ended"], 1);
    assert_eq!(operator.json(&revoke).await, first);
    let other = operator.json(&["grant", "revoke", &id]).await;
    assert_eq!(
        (&other["ended"], &other["position"]),
        (&0.into(), &first["position"])
    );
}

#[tokio::test]
async fn grants_are_listed_by_every_filter() {
    let operator = Operator::start().await;
    let session = operator.rig.analyst().await;
    operator.rig.granted(&session).await;
    for (filter, found) in [
        (["--agent", "data_analyst"], 1),
        (["--agent", "critic"], 0),
        (["--resource", "SAP_API"], 1),
        (["--resource", "PAYMENTS"], 0),
        (["--state", "active"], 1),
        (["--state", "denied"], 0),
        (["--machine", "host-of-data-analyst"], 1),
        (["--limit", "1"], 1),
    ] {
        let listed = operator
            .json(&[&["grant", "list"], &filter[..]].concat())
            .await;
        let items = listed["items"].as_array().unwrap();
        assert_eq!(items.len(), found, "{filter:?}");
    }
    let (code, _) = operator
        .refused(&["grant", "list", "--machine", "nobody"])
        .await;
    assert_eq!(code, 3);
    for refused in [["--state", "asleep"], ["--limit", "0"]] {
        let told = operator
            .run(&[&["grant", "list"], &refused[..]].concat())
            .await;
        assert_eq!(told.code, 2, "{refused:?}");
    }
}

#[tokio::test]
async fn pages_can_be_taken_one_by_one_or_all_at_once() {
    let operator = Operator::start().await;
    for agent in ["a", "b", "c"] {
        operator
            .json(&["agent", "put", agent, "--trust", "500"])
            .await;
    }
    let first = operator.json(&["agent", "list", "--limit", "2"]).await;
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let token = first["next_page_token"].as_str().unwrap();
    let second = operator
        .json(&["agent", "list", "--limit", "2", "--page-token", token])
        .await;
    assert_eq!(second["items"][0]["agent_id"], "c");
    let all = operator.json(&["agent", "list", "--all"]).await;
    assert_eq!(all["items"].as_array().unwrap().len(), 3);

    let table = operator.run(&["agent", "list", "--limit", "2"]).await;
    assert_eq!(table.stdout.lines().count(), 3, "{}", table.stdout);
    let hint = format!("--page-token {token}");
    assert!(table.stderr.contains(&hint), "{}", table.stderr);
    let both = ["agent", "list", "--all", "--limit", "2"];
    assert_eq!(operator.run(&both).await.code, 2);
}

#[tokio::test]
async fn a_policy_goes_out_and_comes_back_and_a_bad_one_is_refused() {
    let operator = Operator::start().await;
    let source = operator.run(&["policy", "get"]).await.stdout;
    let file = operator.path("policy.cedar");
    fs::write(&file, format!("{source}// changed\n")).unwrap();
    let file = file.to_str().unwrap();
    let put = operator
        .json(&["policy", "put", file, "--if-version", "1"])
        .await;
    assert_eq!((&put["version"], &put["active"]), (&2.into(), &true.into()));
    let again = operator
        .refused(&["policy", "put", file, "--if-version", "1"])
        .await;
    assert_eq!(again, (5, "REVISION_CONFLICT".to_owned()));
    assert!(
        operator
            .run(&["policy", "get"])
            .await
            .stdout
            .ends_with("// changed\n")
    );

    let mut command = operator.command(&["policy", "validate", "-", "-o", "json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"permit (principal, action").await.unwrap();
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &found["valid"]),
        (Some(1), &false.into())
    );
    assert!(!found["errors"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_audit_log_is_followed() {
    let operator = Operator::start().await;
    operator
        .json(&["agent", "put", "before", "--trust", "500"])
        .await;
    let mut command = operator.command(&["audit", "tail", "--follow", "-o", "json"]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = async |subject: &str| {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["subject"] == subject {
                return entry;
            }
        }
    };
    let followed = async {
        seen("before").await;
        operator
            .json(&["agent", "put", "after", "--trust", "500"])
            .await;
        seen("after").await
    };
    let entry = tokio::time::timeout(DEADLINE, followed).await.unwrap();
    assert_eq!(entry["action"], "agent.put");
    assert_eq!(entry["outcome"], "ok");
}

#[tokio::test]
async fn a_signing_key_is_rotated_in_steps_in_one_go_and_by_force() {
    let operator = Operator::start().await;
    let prepared = operator
        .json(&["key", "prepare", "--purpose", "grant"])
        .await;
    assert_eq!(prepared["state"], "prepared");
    let id = prepared["id"].as_str().unwrap();
    assert_eq!(
        operator.refused(&["key", "activate", id]).await,
        (5, "REVISION_CONFLICT".to_owned())
    );
    operator.rig.clock.advance(Duration::from_secs(1));
    let activated = operator.json(&["key", "activate", id]).await;
    let states = |keys: &Value| -> Vec<_> {
        let keys = keys["items"].as_array().unwrap();
        keys.iter()
            .map(|key| (key["state"].clone(), key["dropped_at"].is_null()))
            .collect()
    };
    let superseded = [("retired".into(), true), ("active".into(), true)];
    assert_eq!(states(&activated), superseded);

    let rotate = ["key", "rotate", "--purpose", "grant", "-o", "json"];
    let mut child = operator.command(&rotate).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut told = async || lines.next_line().await.unwrap().unwrap();
    assert!(told().await.starts_with("prepared `key_"));
    // it waits for a second of its own, which the server has to live through too
    assert!(told().await.contains("in 1 s"));
    operator.rig.clock.advance(Duration::from_secs(1));
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(states(&rotated), superseded);
    assert_eq!(rotated["items"][0]["id"], id);

    let forced = ["key", "rotate", "--purpose", "session", "--force"];
    let forced = operator.json(&forced).await;
    let refused = [("retired".into(), false), ("active".into(), true)];
    assert_eq!(states(&forced), refused);

    let listed = operator.json(&["key", "list", "--purpose", "grant"]).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    let listed = operator.run(&["key", "list"]).await;
    assert!(listed.stdout.contains("PURPOSE"), "{}", listed.stdout);
}

#[tokio::test]
async fn the_ca_is_rotated_and_its_bundle_is_what_operators_trust_meanwhile() {
    let operator = Operator::start().await;
    let bundle = async || {
        let told = operator.run(&["key", "bundle"]).await;
        assert_eq!(told.code, 0, "{}", told.stderr);
        let certificates = told.stdout.matches("BEGIN CERTIFICATE").count();
        (told.stdout, certificates)
    };
    let first = fs::read_to_string(operator.path("ca.pem")).unwrap();
    assert_eq!(bundle().await.1, 1);
    let prepared = operator.json(&["key", "prepare", "--purpose", "ca"]).await;
    let (pem, certificates) = bundle().await;
    assert_eq!(certificates, 2, "the one that is prepared is published");
    let id = prepared["id"].as_str().unwrap();
    let activate = ["key", "activate", id, "--force"];
    let activated = operator.json(&activate).await;
    let old = activated["items"][0]["id"].as_str().unwrap();

    // who has not read the bundle yet is led to the new one, until the old one is dropped
    operator.json(&["status"]).await;
    fs::write(operator.path("ca.pem"), pem).unwrap();
    operator.json(&["status"]).await;
    let retired = operator.json(&["key", "retire", old, "--force"]).await;
    assert!(retired["dropped_at"].is_string());
    operator.json(&["status"]).await;
    assert_eq!(bundle().await.1, 1);
    let json = operator.json(&["key", "bundle"]).await;
    let pem = json["ca_certificates"].as_str().unwrap();
    assert!(pem.ends_with("-----END CERTIFICATE-----\n"));
    fs::write(operator.path("ca.pem"), first).unwrap();
    let distrusted = operator.run(&["status"]).await;
    assert_eq!(distrusted.code, 6, "{}", distrusted.stderr);
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_failure() {
    let operator = Operator::start().await;
    let mut child = operator
        .command(&["audit", "tail", "-n", "1000"])
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[tokio::test]
async fn every_kind_of_refusal_has_its_exit_code() {
    let operator = Operator::start().await;
    let mut command = operator.command(&["agent", "list"]);
    command.env_remove("AUTHGUARDIAN_ADMIN_TOKEN");
    let no_token = told(command).await;
    assert_eq!(no_token.code, 4);
    assert!(
        no_token.stderr.ends_with("reason: UNAUTHENTICATED\n"),
        "{}",
        no_token.stderr
    );

    let viewer = operator.path("viewer");
    fs::write(&viewer, operator.token(Role::Viewer).await + "\n").unwrap();
    let file = viewer.to_str().unwrap();
    let by_viewer = ["agent", "delete", "scout", "--admin-token-file", file];
    assert_eq!(
        operator.refused(&by_viewer).await,
        (4, "PERMISSION_DENIED".to_owned())
    );

    let nobody = ["agent", "list", "--server", "https://127.0.0.1:1"];
    assert_eq!(
        operator.refused(&nobody).await,
        (6, "UNAVAILABLE".to_owned())
    );
    let clear = ["agent", "list", "--server", "http://127.0.0.1:1"];
    assert_eq!(
        operator.refused(&clear).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    let missing = ["machine", "show", "nobody"];
    assert_eq!(
        operator.refused(&missing).await,
        (3, "INVALID_ARGUMENT".to_owned())
    );
    let malformed = ["machine", "show", "no body"];
    assert_eq!(
        operator.refused(&malformed).await,
        (2, "INVALID_ARGUMENT".to_owned())
    );
    let missing = ["grant", "show", "grt_0000000000000000000007"];
    assert_eq!(
        operator.refused(&missing).await,
        (3, "GRANT_NOT_FOUND".to_owned())
    );
    assert_eq!(
        operator
            .run(&["agent", "put", "scout", "--trust", "1.5"])
            .await
            .code,
        2
    );
    assert_eq!(operator.run(&["agent", "frobnicate"]).await.code, 2);
}

#[tokio::test]
async fn the_status_tells_figures_and_heads() {
    let operator = Operator::start().await;
    operator.rig.analyst().await;
    let status = operator.json(&["status"]).await;
    assert_eq!(status["trust_domain"], "example.org");
    assert_eq!(
        (&status["agents"], &status["machines"]),
        (&1.into(), &1.into())
    );
    assert_eq!(status["write_quorum"], 1);
    let streams: Vec<_> = status["heads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|head| head["stream"].as_str().unwrap())
        .collect();
    let expected = ["budgets", "grants", "identity", "policy", "registry"];
    assert_eq!(streams, expected);
    let yaml = operator.run(&["status", "-o", "yaml"]).await.stdout;
    assert!(yaml.contains("trust_domain: example.org\n"), "{yaml}");
}

#[tokio::test]
async fn completions_know_the_nouns_and_verbs_of_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command.args(["completions", shell]).stdin(Stdio::null());
        let script = command.output().await.unwrap();
        assert_eq!(script.status.code(), Some(0));
        let script = String::from_utf8(script.stdout).unwrap();
        for word in [
            "api-key",
            "resource-type",
            "revoke",
            "rebalance",
            "page-token",
            "watch",
        ] {
            assert!(script.contains(word), "{shell} lacks `{word}`");
        }
    }
}
