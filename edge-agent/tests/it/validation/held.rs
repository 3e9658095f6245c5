//! A token, and what it is for.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    edge::{Edge, RestClient},
    rig::JUSTIFICATION,
    wait::until_async,
};

/// The token of a grant that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) grant_id: String,
    pub(super) token: String,
    agent: &'static str,
    resource_type: &'static str,
}

impl Held {
    /// Asks for a grant and keeps its token.
    pub(super) async fn of(
        client: &RestClient,
        agent: &'static str,
        resource_type: &'static str,
    ) -> Self {
        let ask = asking(agent, resource_type);
        Self::told(
            &client.call("request_permission", ask).await,
            agent,
            resource_type,
        )
    }

    /// Asks for a grant of one second.
    pub(super) async fn brief(
        client: &RestClient,
        agent: &'static str,
        resource_type: &'static str,
    ) -> Self {
        let mut ask = asking(agent, resource_type);
        ask["ttl_seconds"] = json!(1);
        loop {
            let decision = client.call("request_permission", ask.clone()).await;
            // on a busy machine its second can be over before it is told
            if decision["token"].is_string() {
                return Self::told(&decision, agent, resource_type);
            }
        }
    }

    /// Of a decision.
    pub(super) fn told(decision: &Value, agent: &'static str, resource_type: &'static str) -> Self {
        assert_eq!(decision["decision"], "granted", "{decision}");
        Self {
            grant_id: decision["grant_id"].as_str().unwrap().to_owned(),
            token: decision["token"].as_str().unwrap().to_owned(),
            agent,
            resource_type,
        }
    }

    /// The arguments of `validate_token`.
    pub(super) fn question(&self) -> Value {
        json!({"token": self.token, "agent_id": self.agent, "resource_type": self.resource_type})
    }

    /// What an edge says of it by itself, unless it has to ask.
    pub(super) async fn validate(&self, client: &RestClient) -> Value {
        client.call("validate_token", self.question()).await
    }

    /// The question that is always asked at the control plane.
    pub(super) fn strong_question(&self) -> Value {
        let mut question = self.question();
        question["consistency"] = json!("strong");
        question
    }

    /// What its claims say, unchecked.
    pub(super) fn claims(&self) -> Value {
        let payload = self.token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }
}

/// A request that is granted.
fn asking(agent: &str, resource_type: &str) -> Value {
    json!({"agent_id": agent, "resource_type": resource_type, "justification": JUSTIFICATION})
}

/// What an answer says: `valid`, or why not.
pub(super) fn verdict(answer: &Value) -> &str {
    match answer["valid"].as_bool() {
        Some(true) => "valid",
        Some(false) => answer["reason"].as_str().unwrap(),
        None => panic!("no answer to a validation: {answer}"),
    }
}

/// Waits until an edge says this of a token.
pub(super) async fn becomes(client: &RestClient, held: &Held, wanted: &str) {
    let what = format!("{} is {wanted}", held.grant_id);
    until_async(&what, async || {
        let (_, body) = client.try_call("validate_token", held.question()).await;
        body["valid"].is_boolean() && verdict(&body) == wanted
    })
    .await;
}

/// Waits until an edge checks tokens by itself.
pub(super) async fn is_fresh(edge: &Edge) {
    until_async("the edge has heard the control plane", async || {
        let ready = crate::edge::http()
            .get(format!("{}/readyz", edge.url))
            .send()
            .await;
        ready.is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}
