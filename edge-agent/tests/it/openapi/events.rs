//! `/events` as it is described, which schemathesis cannot read to its end.

use reqwest::{StatusCode, Url, header};
use serde_json::{Value, json};

use super::{document, validator::errors};
use crate::{
    edge::{http, read},
    rig::Rig,
};

/// What each parameter is tried with: a JSON array for `events`, else a text.
const VALUES: &[(&str, &str)] = &[
    (
        "events",
        r#"[["grant.granted"], ["grant.*"], ["grants.*", "grant.expired"], ["grant"], ["*"], ["nonsense"],
            ["grant.granted", "x"], [""]]"#,
    ),
    ("agent_id", r#"["data_analyst", "a b", "", "-a"]"#),
    ("board", r#"["strong", "eventual", "A b", ""]"#),
    ("key", r#"["a", "a b", ""]"#),
    ("prefix", r#"["a", ""]"#),
    ("previous", r#"[true, false, "yes"]"#),
    (
        "last_event_id",
        r#"["grants:1.1", "grants:1", "7", "audit:1.1", "grants:-1.1"]"#,
    ),
    ("Last-Event-ID", r#"["grants:1.1", "grants:1", "7"]"#),
];

/// Those that mean nothing without a board.
const OF_BOARDS: [&str; 3] = ["key", "prefix", "previous"];

#[tokio::test]
async fn events_take_the_parameters_that_are_described_and_answer_as_a_stream() {
    let rig = Rig::start().await;
    let document = document(&rig).await;
    let operation = &document["paths"]["/events"]["get"];
    let stream = &operation["responses"]["200"]["content"];
    assert!(stream["text/event-stream"].is_object(), "{operation}");
    assert_eq!(
        operation["security"],
        json!([{"credential": []}, {"ticket": []}])
    );
    let parameters = operation["parameters"].as_array().unwrap();
    assert_eq!(parameters.len(), VALUES.len());
    for parameter in parameters {
        let name = parameter["name"].as_str().unwrap();
        let (_, values) = VALUES.iter().find(|(tried, _)| *tried == name).unwrap();
        let values: Vec<Value> = serde_json::from_str(values).unwrap();
        let found = errors(&parameter["schema"], &values).await;
        for (value, errors) in values.iter().zip(found) {
            let text = match value {
                Value::Array(names) => {
                    let names = names.iter().map(|name| name.as_str().unwrap());
                    names.collect::<Vec<_>>().join(",")
                }
                Value::Bool(flag) => flag.to_string(),
                value => value.as_str().unwrap().to_owned(),
            };
            let url = format!("{}/events", rig.edge.url);
            let request = if parameter["in"] == "header" {
                http().get(url).header(name, text)
            } else {
                let mut url = Url::parse_with_params(&url, [(name, text)]).unwrap();
                if OF_BOARDS.contains(&name) {
                    url.query_pairs_mut().append_pair("board", "strong");
                }
                http().get(url)
            };
            let answer = request.bearer_auth(&rig.api_key).send().await.unwrap();
            if errors.is_empty() {
                assert_eq!(answer.status(), StatusCode::OK, "{name}: {value}");
                assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
            } else {
                let (status, problem) = read(answer).await;
                assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {value}");
                assert_eq!(problem["field"], name, "{problem}");
            }
        }
    }
}
