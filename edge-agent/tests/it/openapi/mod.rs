//! The OpenAPI document: served to anybody, whole in itself, and true.

use reqwest::{Method, StatusCode, header};
use serde_json::Value;

use crate::{
    edge::{http, read},
    rig::Rig,
};

mod arguments;
mod events;
mod results;
mod schemathesis;
mod validator;

async fn document(rig: &Rig) -> Value {
    let url = format!("{}/openapi.json", rig.edge.url);
    let (status, document) = read(http().get(url).send().await.unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    document
}

#[tokio::test]
async fn anybody_may_read_the_description_and_nothing_else_is_done_to_it() {
    let rig = Rig::start().await;
    let url = format!("{}/openapi.json", rig.edge.url);
    for method in [Method::GET, Method::HEAD] {
        let answer = http().request(method.clone(), &url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{method}");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
        assert_ne!(answer.headers()[header::CONTENT_LENGTH], "0", "{method}");
        let is_empty = answer.text().await.unwrap().is_empty();
        assert_eq!(is_empty, method == Method::HEAD);
    }
    let post = http().post(&url).bearer_auth(&rig.api_key).send();
    let answer = post.await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.headers()[header::ALLOW], "GET,HEAD");
    let unknown = http().post(&url).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_description_is_of_this_version_and_refers_to_nothing_that_is_not_in_it() {
    let rig = Rig::start().await;
    let document = document(&rig).await;
    assert_eq!(document["openapi"], "3.1.1");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut references = Vec::new();
    find_references(&document, &mut references);
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_tool_is_described_with_the_schema_that_mcp_lists() {
    let rig = Rig::start().await;
    let document = document(&rig).await;
    let client = rig.edge.client(&rig.api_key);
    let session = client.mcp_session().await;
    let list = serde_json::json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let answer = client
        .mcp(Some(&session), &list)
        .await
        .text()
        .await
        .unwrap();
    let message = answer
        .lines()
        .find_map(|line| line.strip_prefix("data: {"))
        .unwrap();
    let message: Value = serde_json::from_str(&format!("{{{message}")).unwrap();
    let tools = message["result"]["tools"].as_array().unwrap();
    assert!(tools.len() >= 5);
    for tool in tools {
        let name = tool["name"].as_str().unwrap();
        let operation = &document["paths"][format!("/mcp/tools/{name}")]["post"];
        assert_eq!(operation["description"], tool["description"], "{name}");
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let pointer = body.as_str().unwrap().strip_prefix('#').unwrap();
        assert_eq!(
            document.pointer(pointer),
            Some(&tool["inputSchema"]),
            "{name}"
        );
    }
}

fn find_references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.push(reference);
            }
            object
                .values()
                .for_each(|value| find_references(value, found));
        }
        Value::Array(values) => values
            .iter()
            .for_each(|value| find_references(value, found)),
        _ => {}
    }
}
