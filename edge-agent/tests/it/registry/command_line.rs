//! The same as commands.

use serde_json::Value;

use super::Fleet;
use crate::edge::{Edge, command, output};

async fn run(edge: &Edge, key: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command();
    command
        .args(arguments)
        .env("AUTHGUARDIAN_EDGE_URL", &edge.url)
        .env("AUTHGUARDIAN_API_KEY", key);
    let output = output(command).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn an_agent_is_registered_found_and_taken_back_from_the_command_line() {
    let fleet = Fleet::start().await;
    let edge = fleet.edge("first").await;
    let key = fleet.key.as_str();
    let none = run(&edge, key, &["discover"]).await;
    assert_eq!(none.0, Some(3), "{none:?}");
    let registered = run(
        &edge,
        key,
        &[
            "register",
            "--agent",
            "reader",
            "--capability",
            "finance.invoices@1.2",
            "--capability",
            "mail",
            "--endpoint",
            "http://127.0.0.1:8000/mcp",
            "--label",
            "region=eu",
            "--trust-level",
            "700",
            "-o",
            "json",
        ],
    )
    .await;
    assert_eq!(registered.0, Some(0), "{registered:?}");
    let told: Value = serde_json::from_str(&registered.1).unwrap();
    assert_eq!(told["trust_level"], 700);
    let beat = run(&edge, key, &["heartbeat", "--agent", "reader"]).await;
    assert_eq!(beat.0, Some(0), "{beat:?}");
    let query = [
        "discover",
        "--capability",
        "finance.*",
        "--live",
        "--label",
        "region=eu",
    ];
    let found = run(&edge, key, &query).await;
    assert_eq!(found.0, Some(0), "{found:?}");
    let mut lines = found.1.lines();
    assert!(lines.next().unwrap().contains("AGENT ID"), "{}", found.1);
    let line = lines.next().unwrap();
    assert!(
        line.contains("reader") && line.contains("finance.invoices@1.2, mail"),
        "{line}"
    );
    let yaml = run(&edge, key, &["discover", "-o", "yaml"]).await;
    assert!(
        yaml.1.contains("agent_id: reader") && yaml.1.contains("complete: true"),
        "{yaml:?}"
    );
    let ended = run(&edge, key, &["deregister", "--agent", "reader"]).await;
    assert_eq!(ended.0, Some(0), "{ended:?}");
    let again = run(&edge, key, &["heartbeat", "--agent", "reader"]).await;
    assert_eq!(again.0, Some(3), "{again:?}");
    let wrong = run(&edge, key, &["discover", "--label", "region"]).await;
    assert_eq!(wrong.0, Some(2), "{wrong:?}");
    assert!(wrong.2.contains("key=value"), "{wrong:?}");
}
