//! The command lines of `@modelcontextprotocol/inspector`: `--cli`, each
//! process of which makes one request and so can be told of nothing, and
//! `mcpdo`, which holds a connection in a daemon and prints what the edge
//! pushes.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::{Script, source, tool};
use crate::{
    edge::{BINARY, asking},
    rig::Rig,
    wait::until,
};

const ACTIVE: &str = "grants://active";

/// An inspector with a home of its own.
struct Inspector<'a> {
    rig: &'a Rig,
    home: TempDir,
}

/// What an inspector connects to, and how.
struct Target {
    options: Vec<String>,
    /// A URL, or a program with its arguments.
    server: Vec<String>,
}

impl Target {
    fn url(rig: &Rig, path: &str, options: &[&str]) -> Self {
        let mut options: Vec<String> = options.iter().map(|&option| option.into()).collect();
        options.push(format!("--header=Authorization: Bearer {}", rig.api_key));
        Self {
            options,
            server: vec![format!("{}{path}", rig.edge.url)],
        }
    }

    fn stdio(rig: &Rig) -> Self {
        let key = format!("AUTHGUARDIAN_API_KEY={}", rig.api_key);
        let socket = rig.edge.socket.to_str().unwrap();
        Self {
            options: vec!["-e".into(), key],
            server: ["--", BINARY, "stdio", "--socket", socket]
                .map(String::from)
                .into(),
        }
    }
}

impl<'a> Inspector<'a> {
    fn new(rig: &'a Rig) -> Self {
        let home = tempfile::tempdir().unwrap();
        Self { rig, home }
    }

    fn command(&self, program: &str) -> Command {
        let package = "edge-agent/tests/it/clients/node_modules/@modelcontextprotocol/inspector";
        let mut node = tool("bin/node");
        node.arg(source(package).join("clients").join(program))
            .env("HOME", self.home.path())
            .env("MCP_INSPECTOR_DAEMON_DIR", self.home.path())
            .env("MCP_INSPECTOR_SECRET_STORE", "file");
        node
    }

    /// The result of one request, from a process that connects for it.
    async fn cli(&self, target: &Target, request: &[&str]) -> Value {
        let mut once = self.command("launcher/build/index.js");
        once.args(["--cli", "--quiet", "--format", "json"])
            .args(&target.options)
            .args(request)
            .args(&target.server);
        let said = Script::run(once, self.rig).await;
        serde_json::from_str::<Value>(&said).unwrap()["result"].take()
    }

    fn mcpdo(&self) -> Command {
        let mut mcpdo = self.command("mcpdo/build/mcp-bin.js");
        mcpdo.arg("--stored-auth-only");
        mcpdo
    }

    /// Connects in a daemon, both gone when what is returned is dropped.
    async fn connect(&self, target: &Target) -> Connection<'_> {
        let daemon = Script::start(self.command("mcpdo/build/mcpdod.js"), self.rig);
        let socket = self.home.path().join("mcpdod.sock");
        until("the daemon listens", || socket.exists()).await;
        let mut connect = self.mcpdo();
        connect
            .args(["--format", "json", "connect"])
            .args(&target.options)
            .args(&target.server);
        let connected = Script::run(connect, self.rig).await;
        let connected: Value = serde_json::from_str(&connected).unwrap();
        Connection {
            inspector: self,
            name: connected["name"].as_str().unwrap().to_owned(),
            _daemon: daemon,
        }
    }
}

/// A connection that a daemon holds.
struct Connection<'a> {
    inspector: &'a Inspector<'a>,
    name: String,
    _daemon: Script,
}

impl Connection<'_> {
    fn command(&self, method: &str) -> Command {
        let mut command = self.inspector.mcpdo();
        command.args(["--connection", &self.name, method]);
        command
    }

    /// A program that prints what the edge pushes.
    async fn follow(&self, uri: &str) -> Script {
        let mut follow = self.command("resources/subscribe");
        follow.arg(uri);
        let mut follow = Script::start(follow, self.inspector.rig);
        follow.says(&format!("Subscribed: {uri}")).await;
        follow
    }

    async fn call(&self, tool: &str, arguments: &Value) -> Value {
        let mut call = self.command("tools/call");
        call.args(["--format", "json", tool]);
        for (name, value) in arguments.as_object().unwrap() {
            call.arg(format!("{name}:={value}"));
        }
        let said = Script::run(call, self.inspector.rig).await;
        serde_json::from_str::<Value>(&said).unwrap()["structuredContent"].take()
    }
}

fn check(token: &Value) -> Value {
    json!({"token": token, "agent_id": "data_analyst", "resource_type": "SAP_API"})
}

async fn takes_a_grant_and_sees_its_end(rig: &Rig, target: &Target) {
    let inspector = Inspector::new(rig);
    let call = async |tool: &str, arguments: Value| {
        let arguments = arguments.to_string();
        let request = ["--method", "tools/call", "--tool-name", tool];
        let request = [&request[..], &["--tool-args-json", &arguments]].concat();
        inspector.cli(target, &request).await["structuredContent"].take()
    };
    let list = ["--method", "resources/list"];
    let listed = inspector.cli(target, &list).await;
    assert_eq!(listed["resources"][0]["uri"], ACTIVE, "{listed}");

    let granted = call("request_permission", asking("data_analyst")).await;
    assert_eq!(granted["decision"], "granted", "{granted}");
    call("revoke_token", json!({"token": granted["token"]})).await;
    let valid = call("validate_token", check(&granted["token"])).await;
    assert_eq!(valid["reason"], "GRANT_REVOKED", "{valid}");
}

async fn is_told_of_a_grant_and_of_its_end(rig: &Rig, target: &Target) {
    let inspector = Inspector::new(rig);
    let connection = inspector.connect(target).await;
    let mut follow = connection.follow(ACTIVE).await;
    let updated = format!("Resource updated: {ACTIVE}");

    let asking = asking("data_analyst");
    let granted = connection.call("request_permission", &asking).await;
    assert_eq!(granted["decision"], "granted", "{granted}");
    follow.says(&updated).await;
    let revoke = json!({"token": granted["token"]});
    connection.call("revoke_token", &revoke).await;
    follow.says(&updated).await;
    let check = check(&granted["token"]);
    let valid = connection.call("validate_token", &check).await;
    assert_eq!(valid["reason"], "GRANT_REVOKED", "{valid}");
}

#[tokio::test]
async fn the_cli_takes_a_grant_and_sees_its_end() {
    let rig = Rig::start().await;
    let modern = Target::url(&rig, "/mcp", &["--protocol-era", "modern"]);
    let stdio = Target::stdio(&rig);
    tokio::join!(
        takes_a_grant_and_sees_its_end(&rig, &modern),
        takes_a_grant_and_sees_its_end(&rig, &stdio),
    );
}

#[tokio::test]
async fn mcpdo_is_told_of_a_grant_and_of_its_end() {
    let rig = Rig::start().await;
    // one after the other: each is told of the other's grants as well
    for path in ["/mcp", "/sse"] {
        is_told_of_a_grant_and_of_its_end(&rig, &Target::url(&rig, path, &[])).await;
    }
}
