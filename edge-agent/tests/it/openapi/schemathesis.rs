//! schemathesis holds the real REST face against the document: valid and invalid
//! calls of every operation, bounded and always the same.

use std::time::Duration;

use serde_json::json;

use super::{document, validator::python};
use crate::{edge::asking, rig::Rig};

const CONFIG: &str = include_str!("schemathesis.toml");
const PATIENCE: Duration = Duration::from_mins(3);

#[tokio::test]
async fn the_rest_face_does_what_its_description_says() {
    let rig = Rig::start().await;
    let client = rig.edge.client(&rig.api_key);
    let (mut grants, mut tokens) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (grant, token) = client.granted().await;
        grants.push(grant["grant_id"].clone());
        tokens.push(token);
    }
    let refused = client.call(
        "request_permission",
        json!({"agent_id": "data_analyst", "resource_type": "SAP_API", "justification": "x"}),
    );
    grants.push(refused.await["grant_id"].clone());
    let ended = json!({ "token": tokens[0] });
    client.call("revoke_token", ended).await;
    let config = format!(
        "{CONFIG}
         [dictionaries]
         agents.values = [{agent}]
         resource_types.values = [{resource_type}, \"FINANCIAL_API\"]
         grants.values = {grants}
         tokens.values = {tokens}\n",
        agent = asking("data_analyst")["agent_id"],
        resource_type = asking("data_analyst")["resource_type"],
        grants = json!(grants),
        tokens = json!(tokens),
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("schemathesis.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = python();
    command
        .args(["-m", "schemathesis.cli"])
        .arg("--config-file")
        .arg(&file)
        .args(["--no-color", "run", "--warnings", "off", "--checks", "all"])
        // a stream that goes on for ever: see `events`
        .args(["--exclude-operation-id", "watch_events"])
        .arg("--header")
        .arg(format!("Authorization: Bearer {}", rig.api_key))
        .arg(format!("{}/openapi.json", rig.edge.url))
        .current_dir(dir.path());
    let ran = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = ran.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{complaints}");
    let operations = told.lines().find(|line| line.contains("Tested:"));
    let described = document(&rig).await;
    let paths = described["paths"].as_object().unwrap().values();
    let count: usize = paths.map(|path| path.as_object().unwrap().len()).sum();
    // neither the stream nor the document itself, which it leaves out by itself
    let all_others = format!("Tested: {}", count - 2);
    assert!(
        operations.is_some_and(|line| line.contains(&all_others)),
        "{told}"
    );
}
