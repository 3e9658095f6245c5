//! Boards through the edge: what is written comes back, and who watches hears.

mod events;
pub(crate) mod subscriptions;
mod texts;
mod values;

use edge_agent::core::exact;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use crate::{
    edge::RestClient,
    faces::speaker::{Face, Speaker},
    rig::Rig,
};

/// A way to call tools with arguments that are text.
pub(crate) enum Way {
    Rest(RestClient),
    Mcp(Face, Box<Speaker>),
}

impl Way {
    /// All of them.
    pub(crate) async fn all(rig: &Rig) -> Vec<Self> {
        let mut ways = vec![Self::Rest(rig.edge.client(&rig.api_key))];
        for face in Face::ALL {
            let speaker = Speaker::begin(face, &rig.edge, &rig.api_key).await;
            ways.push(Self::Mcp(face, Box::new(speaker)));
        }
        ways
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Rest(_) => "REST".to_owned(),
            Self::Mcp(face, _) => format!("{face:?}"),
        }
    }

    /// A tool's result, or what it was refused with.
    pub(crate) async fn call(&mut self, tool: &str, arguments: &str) -> Result<Value, Value> {
        match self {
            Self::Rest(client) => {
                let (status, body) = through_rest(client, tool, arguments).await;
                if status.is_success() {
                    Ok(body)
                } else {
                    Err(body)
                }
            }
            // a line ends the message there
            Self::Mcp(Face::Stdio, speaker) => {
                let line = arguments.replace(['\n', '\r'], " ");
                speaker.call_with(tool, &line).await
            }
            Self::Mcp(_, speaker) => speaker.call_with(tool, arguments).await,
        }
    }

    async fn write(&mut self, key: &str, value: &str) -> Result<Value, Value> {
        let key = json!(key);
        let arguments = format!(r#"{{"key": {key}, "value": {value}}}"#);
        self.call("blackboard_write", &arguments).await
    }

    async fn read(&mut self, key: &str) -> Result<Value, Value> {
        let arguments = json!({ "key": key }).to_string();
        self.call("blackboard_read", &arguments).await
    }
}

pub(crate) async fn through_rest(
    client: &RestClient,
    tool: &str,
    arguments: &str,
) -> (StatusCode, Value) {
    let request = client
        .post(tool)
        .header(header::CONTENT_TYPE, "application/json")
        .body(arguments.to_owned());
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, exact(&text).unwrap())
}
