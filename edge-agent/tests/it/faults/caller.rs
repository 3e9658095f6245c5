//! One client of an edge's REST face.

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::history::{Act, Answer, Attempt, Call};
use crate::wait::DEADLINE;

/// Whom all calls are for.
pub(crate) const AGENT: &str = "data_analyst";
const RESOURCE_TYPE: &str = "SAP_API";

/// Before a call is repeated: long enough not to keep a machine busy whose
/// edge is just starting.
const PAUSE: Duration = Duration::from_millis(25);

/// Longer than the edge takes to give a call up.
const TRY_TIMEOUT: Duration = Duration::from_secs(15);

/// A grant must not end by itself while it is looked at.
const TTL_SECONDS: u32 = 3600;

/// Where calls go, since when, and what came back so far.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) api_key: String,
    pub(super) began: Instant,
    pub(super) heard: Arc<watch::Sender<Heard>>,
}

/// How many attempts of all callers ended in which way.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Heard {
    pub(super) acknowledged: usize,
    pub(super) unknown: usize,
}

/// One client and its connections.
pub(super) struct Caller {
    http: Client,
    target: Target,
}

impl Caller {
    pub(super) fn new(target: Target) -> Self {
        let http = Client::builder().no_proxy().timeout(TRY_TIMEOUT);
        Self {
            http: http.build().unwrap(),
            target,
        }
    }

    /// Tries until there is a definite answer.
    pub(super) async fn resolve(&self, call: &mut Call) {
        let until = Instant::now() + DEADLINE;
        loop {
            let start = self.target.began.elapsed();
            let answer = self.attempt(call).await;
            let end = self.target.began.elapsed();
            let definite = !matches!(answer, Answer::Unknown(_));
            self.target.heard.send_modify(|heard| {
                heard.acknowledged += usize::from(answer.is_acknowledged());
                heard.unknown += usize::from(!definite);
            });
            call.attempts.push(Attempt { start, end, answer });
            if definite || Instant::now() > until {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, call: &Call) -> Answer {
        let (tool, arguments) = match &call.act {
            Act::Request => ("request_permission", asking(&call.request_id)),
            Act::Revoke { token, .. } => (
                "revoke_token",
                json!({"token": token, "request_id": call.request_id}),
            ),
        };
        match self.post(tool, &arguments).await {
            Ok((status, body)) => read(tool, status, &body),
            Err(error) => Answer::Unknown(if error.is_timeout() {
                "timeout".to_owned()
            } else {
                "connection".to_owned()
            }),
        }
    }

    /// What `validate_token` says: `valid` or the reason.
    pub(super) async fn validate(&self, token: &str) -> String {
        let arguments = json!({"token": token, "agent_id": AGENT, "resource_type": RESOURCE_TYPE});
        match self.post("validate_token", &arguments).await {
            Ok((_, body)) if body["valid"] == true => "valid".to_owned(),
            Ok((_, body)) => text(&body["reason"]),
            Err(error) => error.to_string(),
        }
    }

    /// Status and body of a tool's answer.
    async fn post(&self, tool: &str, arguments: &Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}/mcp/tools/{tool}", self.target.url);
        let request = self.http.post(url).json(arguments);
        let response = request.bearer_auth(&self.target.api_key).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// Ids of the grants in `grants://active`.
    pub(super) async fn active(&self) -> Vec<String> {
        let url = format!("{}/mcp/resources/grants://active", self.target.url);
        let request = self.http.get(url).bearer_auth(&self.target.api_key);
        let listed: Value = request.send().await.unwrap().json().await.unwrap();
        let grants = listed["grants"].as_array().unwrap();
        grants
            .iter()
            .map(|grant| text(&grant["grant_id"]))
            .collect()
    }
}

/// The roadmap's request, under this id.
fn asking(request_id: &str) -> Value {
    json!({
        "agent_id": AGENT,
        "resource_type": RESOURCE_TYPE,
        "justification": "Q4 analysis task",
        "ttl_seconds": TTL_SECONDS,
        "request_id": request_id,
    })
}

fn read(tool: &str, status: u16, body: &Value) -> Answer {
    match (status, tool) {
        (200, "request_permission") if body["decision"] == "granted" => Answer::Granted {
            grant_id: text(&body["grant_id"]),
            token: body["token"].as_str().map(str::to_owned),
        },
        (200, "revoke_token") if body["revoked"] == true => Answer::Revoked {
            grant_id: text(&body["grant_id"]),
            revision: body["revision"].as_u64().unwrap_or_default(),
        },
        (200, _) => Answer::Refused(body.to_string()),
        _ => match text(&body["reason"]) {
            reason if ["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&reason.as_str()) => {
                Answer::Unknown(reason)
            }
            reason => Answer::Refused(format!("{status} {reason}: {}", body["detail"])),
        },
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
