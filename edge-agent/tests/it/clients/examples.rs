//! The examples of `deploy/examples`: these very files, run as their readers
//! run them.

use serde_json::json;
use tokio::process::Command;

use super::{Script, source, tool};
use crate::{audit::entries, edge::http, rig::Rig};

const UNKNOWN_KEY: &str = "agk_0000000000000000000001_0000000000000000000000000000000000000000001";

fn python(name: &str) -> Command {
    let mut python = tool("clients/mcp-2/bin/python3");
    python.arg(source("deploy/examples/python").join(name));
    python
}

fn typescript(name: &str) -> Command {
    let mut node = tool("bin/node");
    node.arg(source("deploy/examples/typescript").join(name));
    node
}

fn shell() -> Command {
    Command::new(source("deploy/examples/shell/login.sh"))
}

fn curl() -> Command {
    Command::new(source("deploy/examples/curl/grant.sh"))
}

fn counter() -> Command {
    Command::new(source("deploy/examples/curl/counter.sh"))
}

#[tokio::test]
async fn an_agent_uses_a_permission_and_gives_it_back() {
    let rig = Rig::start().await;
    for agent in [
        python("agent.py"),
        typescript("agent.ts"),
        typescript("agent-sdk-1.ts"),
    ] {
        let said = Script::run(agent, &rig).await;
        assert!(said.contains("granted until 20"), "{said}");
        assert!(said.to_lowercase().contains("good: true"), "{said}");
        assert!(said.ends_with("given back"), "{said}");
        let active = rig.edge.client(&rig.api_key);
        let active = active.resource("grants://active").await;
        assert_eq!(active, json!({"grants": []}));
    }
}

#[tokio::test]
async fn curl_alone_takes_a_grant_through_its_life() {
    let rig = Rig::start().await;
    let said = Script::run(curl(), &rig).await;
    for told in [
        "asked for a permission:      granted",
        "the token is valid:          true",
        "given back:                  true",
        "the token is valid:          false (GRANT_REVOKED)",
        "\"structuredContent\":{\"decision\":\"granted\"",
    ] {
        assert!(said.contains(told), "{said}");
    }
}

#[tokio::test]
async fn processes_count_together_on_a_blackboard_and_lose_nothing() {
    const EACH: u32 = 5;
    let rig = Rig::start().await;
    let count = || {
        let mut counter = counter();
        counter.arg(EACH.to_string());
        Script::run(counter, &rig)
    };
    let said = tokio::join!(count(), count(), count());
    for said in [said.0, said.1, said.2] {
        assert!(said.starts_with("counted to "), "{said}");
    }
    let arguments = json!({"board": "strong", "key": "examples/counter"});
    let client = rig.edge.client(&rig.api_key);
    let counted = client.call("blackboard_read", arguments).await;
    assert_eq!(counted["value"], json!(3 * EACH));
}

#[tokio::test]
async fn a_key_logs_in_from_python_and_from_a_shell_without_ever_being_sent() {
    let rig = Rig::start().await;
    for login in [python("login.py"), shell()] {
        let said = Script::run(login, &rig).await;
        for told in ["local_machine", "granted", "logged out"] {
            assert!(said.contains(told), "{said}");
        }
    }
    for (action, calls) in [
        ("session.create", 2),
        ("session.renew", 2),
        ("session.end", 2),
    ] {
        let told = entries(&rig.control_plane, (action, ""), calls).await;
        assert_eq!(
            told.len(),
            2,
            "{action}: no more than the two, and by nobody else: {told:#?}"
        );
    }
}

#[tokio::test]
async fn a_key_of_openssl_logs_in_once_its_public_half_is_registered() {
    let rig = Rig::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("key.pem");
    let openssl = async |arguments: &[&str]| {
        let output = Command::new("openssl")
            .args(arguments)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let file = pem.to_str().unwrap();
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", file]).await;
    let public = openssl(&["pkey", "-in", file, "-pubout", "-outform", "DER"]).await;
    let public_key = public[public.len() - 32..].try_into().unwrap();
    let id = rig
        .control_plane
        .register(
            public_key,
            &["data_analyst"],
            false,
            None,
            Default::default(),
        )
        .await;
    let with_pem = |mut login: Command| {
        login
            .env("AUTHGUARDIAN_API_KEY_ID", id.to_string())
            .env("AUTHGUARDIAN_PRIVATE_KEY_FILE", &pem);
        login
    };
    for login in [python("login.py"), shell()] {
        let said = Script::run(with_pem(login), &rig).await;
        assert!(
            said.contains("granted") && said.contains("logged out"),
            "{said}"
        );
    }
    rig.control_plane.revoke_api_key(id).await;
    for login in [python("login.py"), shell()] {
        Script::fails(with_pem(login), &rig, UNKNOWN_KEY).await;
    }
}

#[tokio::test]
async fn without_a_good_key_every_example_fails() {
    let rig = Rig::start().await;
    for example in [
        python("agent.py"),
        typescript("agent.ts"),
        typescript("agent-sdk-1.ts"),
        curl(),
        counter(),
        python("login.py"),
        shell(),
    ] {
        Script::fails(example, &rig, UNKNOWN_KEY).await;
    }
}

#[tokio::test]
async fn a_resource_lets_in_who_holds_a_living_grant_for_it() {
    let rig = Rig::start().await;
    let validator = rig.control_plane.api_key(&["invoice_server"], true).await;
    let jwks = format!("http://{}/.well-known/jwks.json", rig.control_plane.http);
    let mut server = python("invoice_server.py");
    server.arg("0").env("AUTHGUARDIAN_JWKS_URL", jwks);
    let mut server = Script::start_with_key(server, &rig, &validator);
    let url = server.line().await;

    let mut agent = python("agent.py");
    agent.arg(&url);
    let said = Script::run(agent, &rig).await;
    assert!(said.contains("the resource answered 200"), "{said}");

    let status = async |token: &str| {
        let asked = http().get(&url).bearer_auth(token).send().await;
        asked.unwrap().status().as_u16()
    };
    assert_eq!(http().get(&url).send().await.unwrap().status(), 401);
    assert_eq!(status("no.grant.token").await, 401);
    let client = rig.edge.client(&rig.api_key);
    let (_, token) = client.granted().await;
    assert_eq!(status(&token).await, 200);
    client.call("revoke_token", json!({"token": token})).await;
    assert_eq!(status(&token).await, 403);
}
