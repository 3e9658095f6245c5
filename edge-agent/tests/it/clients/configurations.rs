//! The configurations in `deploy/examples/mcp-clients`: each is read as its
//! client reads it, and what it says is done against a running edge.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::source;
use crate::{
    edge::{BINARY, RestClient},
    rig::Rig,
    wait::DEADLINE,
};

const DIR: &str = "deploy/examples/mcp-clients";
const KEY: &str = "AUTHGUARDIAN_API_KEY";
const KEY_FILE: &str = "/home/you/.config/authguardian/api-key";

/// How a client writes "the key", which it puts there itself.
const PLACES: &[(&str, &str)] = &[
    ("claude-code", "${AUTHGUARDIAN_API_KEY}"),
    ("vscode", "${input:authguardian-api-key}"),
    ("cursor", "${env:AUTHGUARDIAN_API_KEY}"),
    ("windsurf", "${env:AUTHGUARDIAN_API_KEY}"),
    ("continue", "${{ secrets.AUTHGUARDIAN_API_KEY }}"),
    ("gemini-cli", "$AUTHGUARDIAN_API_KEY"),
];

/// What a file tells its client to do.
#[derive(Debug)]
enum Server {
    Stdio {
        command: String,
        arguments: Vec<String>,
        environment: BTreeMap<String, String>,
    },
    Http {
        url: String,
        authorization: String,
    },
}

/// A file, by its name.
struct File {
    name: String,
    text: String,
}

impl File {
    fn all() -> Vec<Self> {
        let mut files: Vec<Self> = std::fs::read_dir(source(DIR))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none_or(|kind| kind != "md"))
            .map(|path| Self {
                name: path.file_name().unwrap().to_str().unwrap().to_owned(),
                text: std::fs::read_to_string(&path).unwrap(),
            })
            .collect();
        files.sort_by(|one, other| one.name.cmp(&other.name));
        files
    }

    fn parse(&self) -> Value {
        match self.name.rsplit('.').next().unwrap() {
            "json" => serde_json::from_str(&self.text).unwrap(),
            "toml" => toml::from_str(&self.text).unwrap(),
            "yaml" => serde_norway::from_str(&self.text).unwrap(),
            other => panic!("{}: `.{other}` is no form of these", self.name),
        }
    }

    /// The one server in it, with the key where the client puts it.
    fn server(&self, api_key: &str) -> Server {
        let all = self.parse();
        let lists = ["mcpServers", "servers", "context_servers", "mcp_servers"];
        let servers = lists.iter().find_map(|list| all.get(list)).unwrap();
        let server = match servers {
            Value::Array(servers) => servers.iter().find(|one| one["name"] == "authguardian"),
            servers => servers.get("authguardian"),
        };
        let server = server.unwrap();
        let place = PLACES
            .iter()
            .find(|(client, _)| self.name.starts_with(client));
        let filled = |text: &Value| {
            let text = text.as_str().unwrap();
            place.map_or(text.to_owned(), |(_, place)| text.replace(place, api_key))
        };
        if let Some(command) = server["command"].as_str() {
            let arguments = server["args"].as_array().unwrap().iter().map(filled);
            let mut environment: BTreeMap<String, String> = server["env"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| (name.clone(), filled(value)))
                .collect();
            for name in server["env_vars"].as_array().into_iter().flatten() {
                assert_eq!(name, KEY);
                environment.insert(KEY.to_owned(), api_key.to_owned());
            }
            return Server::Stdio {
                command: command.to_owned(),
                arguments: arguments.collect(),
                environment,
            };
        }
        let url = ["url", "httpUrl", "serverUrl"]
            .iter()
            .find_map(|name| server[*name].as_str());
        let authorization = if server["bearer_token_env_var"] == KEY {
            format!("Bearer {api_key}")
        } else {
            filled(&server["headers"]["Authorization"])
        };
        Server::Http {
            url: url.unwrap().to_owned(),
            authorization,
        }
    }
}

/// The names of the tools that a command's server lists.
async fn tools_over_stdio(mut command: Command) -> BTreeSet<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let messages = [
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}),
    ];
    let listed = async {
        for message in messages {
            stdin
                .write_all(format!("{message}\n").as_bytes())
                .await
                .unwrap();
            while let Some(id) = message.get("id") {
                let line = lines.next_line().await.unwrap().unwrap();
                let answer: Value = serde_json::from_str(&line).unwrap();
                if answer.get("id") != Some(id) {
                    continue;
                }
                if *id == 2 {
                    return names(&answer);
                }
                break;
            }
        }
        BTreeSet::new()
    };
    let listed = tokio::time::timeout(DEADLINE, listed).await.unwrap();
    drop(stdin);
    let ended = tokio::time::timeout(DEADLINE, child.wait()).await;
    assert!(ended.unwrap().unwrap().success());
    listed
}

fn names(answer: &Value) -> BTreeSet<String> {
    let tools = answer["result"]["tools"].as_array();
    tools
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|tool| tool["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn tools_over_http(rig: &Rig, authorization: &str) -> BTreeSet<String> {
    let key = authorization.strip_prefix("Bearer ").unwrap();
    let client = RestClient::at(&rig.edge.url, key);
    let session = client.mcp_session().await;
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    names(&crate::mcp::answer(client.mcp(Some(&session), &list).await).await)
}

#[tokio::test]
async fn every_configuration_reaches_the_edge_with_the_key_that_is_not_in_it() {
    let rig = Rig::start().await;
    let key_file = rig.edge.dir.path().join("api-key");
    std::fs::write(&key_file, format!("{}\n", rig.api_key)).unwrap();
    let files = File::all();
    assert!(files.len() >= 19, "{}", files.len());
    for file in files {
        assert!(!file.text.contains("agk_"), "{}", file.name);
        let listed = match file.server(&rig.api_key) {
            Server::Stdio {
                command,
                arguments,
                environment,
            } => {
                assert_eq!(command, "edge-agent", "{}", file.name);
                assert_ne!(
                    environment.contains_key(KEY),
                    arguments.iter().any(|argument| argument == KEY_FILE),
                    "{}: the key gets in by one way",
                    file.name
                );
                let mut command = Command::new(BINARY);
                let arguments = arguments
                    .iter()
                    .map(|argument| argument.replace(KEY_FILE, key_file.to_str().unwrap()));
                command
                    .args(arguments)
                    .env_clear()
                    .envs(environment)
                    .env("AUTHGUARDIAN_EDGE_SOCKET", &rig.edge.socket);
                tools_over_stdio(command).await
            }
            Server::Http { url, authorization } => {
                // where the shipped configuration listens; the test's edge is elsewhere
                assert_eq!(url, "http://127.0.0.1:3001/mcp", "{}", file.name);
                tools_over_http(&rig, &authorization).await
            }
        };
        assert!(
            listed.contains("request_permission"),
            "{}: {listed:?}",
            file.name
        );
    }
}

#[test]
fn the_readme_names_every_configuration_and_no_other() {
    let readme = std::fs::read_to_string(source(DIR).join("README.md")).unwrap();
    let named: BTreeSet<&str> = readme
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .collect();
    let files = File::all();
    let there: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(named, there);
}
