//! The command line's sessions: got, kept, renewed, given up.

use std::{os::unix::fs::PermissionsExt, path::PathBuf, process::Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    audit::entries,
    edge::{Edge, Launch, command, http, output},
    rig::Rig,
};

/// A user's shell.
struct Shell {
    rig: Rig,
    home: TempDir,
}

impl Shell {
    async fn start() -> Self {
        Self {
            rig: Rig::start().await,
            home: tempfile::tempdir().unwrap(),
        }
    }

    fn session_file(&self) -> PathBuf {
        self.home.path().join("run/session.json")
    }

    async fn run(&self, arguments: &[&str], key: Option<&str>) -> Output {
        let mut command = command();
        command
            .args(arguments)
            .env("AUTHGUARDIAN_SESSION_FILE", self.session_file());
        if let Some(key) = key {
            command.env("AUTHGUARDIAN_API_KEY", key);
        }
        output(command).await
    }

    /// Runs a verb that has to succeed, and reads its JSON.
    async fn json(&self, arguments: &[&str], key: Option<&str>) -> Value {
        let told = self.run(&[arguments, &["-o", "json"]].concat(), key).await;
        assert_eq!(
            told.status.code(),
            Some(0),
            "{arguments:?}: {}",
            stderr(&told)
        );
        serde_json::from_slice(&told.stdout).unwrap()
    }

    fn kept(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.session_file()).unwrap()).unwrap()
    }

    /// Ages the kept session, so that it is due.
    fn age(&self) {
        let mut kept = self.kept();
        kept["session"]["got_at"] = json!(kept["session"]["got_at"].as_i64().unwrap() - 600);
        std::fs::write(self.session_file(), kept.to_string()).unwrap();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const ASK: [&str; 7] = [
    "request-permission",
    "--agent",
    "data_analyst",
    "--resource",
    "SAP_API",
    "--justification",
    "Q4 analysis task",
];

#[tokio::test]
async fn connect_keeps_edge_and_session_for_the_other_verbs_until_logout() {
    let shell = Shell::start().await;
    let url = shell.rig.edge.url.clone();
    let key = shell.rig.api_key.clone();
    let connected = shell.json(&["connect", "--server", &url], Some(&key)).await;
    assert_eq!(connected["server"], json!(url));
    assert_eq!(
        (&connected["machine_name"], &connected["zone"]),
        (&json!("host"), &json!("local_machine"))
    );
    assert_eq!(connected["agent_ids"], json!(["data_analyst"]));
    assert_eq!(connected.get("session_token"), None);
    let mode = std::fs::metadata(shell.session_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(shell.session_file()).unwrap();
    assert!(!text.contains("agk_"), "the key is not kept");

    // neither address nor key is named any more
    assert_eq!(shell.json(&ASK, None).await["decision"], "granted");
    assert_eq!(shell.json(&["status"], None).await["machine_name"], "host");
    let got_at = shell.kept()["session"]["got_at"].clone();
    shell.age();
    assert_eq!(shell.json(&ASK, None).await["decision"], "granted");
    let after = shell.kept()["session"].clone();
    // a token that is made in the same second is the same text
    assert!(
        after["got_at"].as_i64() >= got_at.as_i64(),
        "it was renewed"
    );
    entries(&shell.rig.control_plane, ("session.renew", ""), 1).await;
    assert_eq!(after["session_id"], connected["session_id"]);

    let ended = shell.json(&["logout"], None).await;
    assert_eq!(ended["session_id"], connected["session_id"]);
    let refused = http()
        .get(format!("{url}/auth/session"))
        .bearer_auth(after["session_token"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 401);
    let keyless = shell.run(&ASK, None).await;
    assert_eq!(keyless.status.code(), Some(2));
    assert!(
        stderr(&keyless).contains("edge-agent login"),
        "{}",
        stderr(&keyless)
    );
    assert_eq!(
        shell.run(&["logout"], None).await.status.code(),
        Some(2),
        "nothing is left"
    );
    assert_eq!(shell.kept()["server"], json!(url), "but where the edge is");
    shell.json(&["login"], Some(&key)).await;
    assert_eq!(shell.json(&ASK, None).await["decision"], "granted");
}

#[tokio::test]
async fn verbs_with_a_key_sign_and_never_send_it() {
    let shell = Shell::start().await;
    let (url, key) = (shell.rig.edge.url.clone(), shell.rig.api_key.clone());
    let ask = [&ASK[..], &["--server", &url]].concat();
    assert_eq!(shell.json(&ask, Some(&key)).await["decision"], "granted");
    assert!(!shell.session_file().exists(), "a verb alone keeps nothing");
    let control_plane = &shell.rig.control_plane;
    let made = entries(control_plane, ("session.create", ""), 1).await;
    let grants = entries(control_plane, ("grant.request", ""), 1).await;
    assert_eq!(
        (made.len(), grants.len()),
        (1, 1),
        "the edge has made no session for a key"
    );

    let token = shell
        .run(&["login", "--print-token", "--server", &url], Some(&key))
        .await;
    let token = String::from_utf8(token.stdout).unwrap();
    let who = http()
        .get(format!("{url}/auth/session"))
        .bearer_auth(token.trim());
    let who: Value = who.send().await.unwrap().json().await.unwrap();
    assert_eq!(who["agent_ids"], json!(["data_analyst"]));
    assert!(!shell.session_file().exists());
}

#[tokio::test]
async fn a_session_that_has_ended_is_got_anew_with_the_key_only() {
    let shell = Shell::start().await;
    let (url, key) = (shell.rig.edge.url.clone(), shell.rig.api_key.clone());
    shell.json(&["login", "--server", &url], Some(&key)).await;
    let token = shell.kept()["session"]["session_token"].clone();
    let end = http().delete(format!("{url}/auth/session"));
    let end = end
        .bearer_auth(token.as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(end.status(), 204);
    let refused = shell.run(&ASK, None).await;
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("SESSION_EXPIRED"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(shell.json(&ASK, Some(&key)).await["decision"], "granted");

    let (id, other) = shell
        .rig
        .control_plane
        .api_key_with_id(&["orchestrator"], false)
        .await;
    let refused = shell.run(&ASK, Some(&other)).await;
    assert!(
        stderr(&refused).contains("AGENT_MISMATCH"),
        "another key has another session"
    );
    shell.rig.control_plane.revoke_api_key(id).await;
    let refused = shell.run(&["login"], Some(&other)).await;
    assert_eq!(refused.status.code(), Some(4));
    assert!(
        stderr(&refused).contains("API_KEY_REVOKED"),
        "{}",
        stderr(&refused)
    );
}

#[tokio::test]
async fn an_edge_with_a_certificate_of_its_own_is_vouched_for_by_a_file_that_is_remembered() {
    let shell = Shell::start().await;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let path = |name: &str| shell.home.path().join(name);
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let launch = Launch {
        environment: vec![
            (
                "AUTHGUARDIAN_TLS__CERTIFICATE_FILE",
                path("cert.pem").into(),
            ),
            ("AUTHGUARDIAN_TLS__KEY_FILE", path("key.pem").into()),
        ],
        ..Launch::at(&[shell.rig.control_plane.url()])
    };
    let edge = Edge::start_with(&shell.rig.control_plane, "machine-a", launch).await;
    assert!(edge.url.starts_with("https://"), "{}", edge.url);
    let key = shell.rig.api_key.clone();
    let unknown = shell
        .run(&["connect", "--server", &edge.url], Some(&key))
        .await;
    assert_eq!(unknown.status.code(), Some(6), "{}", stderr(&unknown));
    assert!(!shell.session_file().exists());

    let ca = path("cert.pem");
    let connect = [
        "connect",
        "--server",
        &edge.url,
        "--ca-file",
        ca.to_str().unwrap(),
    ];
    let connected = shell.json(&connect, Some(&key)).await;
    assert_eq!(connected["machine_name"], "machine-a");
    assert_eq!(shell.json(&ASK, None).await["decision"], "granted");
    // a session is not shown to another edge
    let elsewhere = [&ASK[..], &["--server", &shell.rig.edge.url]].concat();
    assert_eq!(shell.run(&elsewhere, None).await.status.code(), Some(2));
    shell.json(&["logout"], None).await;
}

#[tokio::test]
async fn what_is_no_edge_is_not_connected_to() {
    let shell = Shell::start().await;
    for (server, code) in [("http://127.0.0.1:1", 6), ("nonsense", 2)] {
        let refused = shell.run(&["connect", "--server", server], None).await;
        assert_eq!(refused.status.code(), Some(code), "{}", stderr(&refused));
    }
    let jwks = format!("http://{}", shell.rig.control_plane.http);
    let refused = shell.run(&["connect", "--server", &jwks], None).await;
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    let ca = shell.home.path().join("ca.pem");
    std::fs::write(&ca, "nothing").unwrap();
    let connect = [
        "connect",
        "--server",
        "https://127.0.0.1:1",
        "--ca-file",
        ca.to_str().unwrap(),
    ];
    assert_eq!(shell.run(&connect, None).await.status.code(), Some(2));
    assert!(!shell.session_file().exists());
}
