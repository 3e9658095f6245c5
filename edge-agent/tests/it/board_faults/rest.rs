//! Calls over REST at an edge.

use authguardian_history::{
    Act, Answer, Call, Compare, Condition, Do, Entry, LockHeld, Outcome, Position, Step, StepResult,
};
use reqwest::Client;
use serde_json::{Value, json};

use super::way::BOARD;
use crate::edge::http;

/// A client of one edge.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) agent: String,
    http: Client,
    url: String,
    api_key: String,
}

impl Rest {
    pub(super) fn new(url: &str, agent: &str, api_key: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            http: http(),
            url: url.to_owned(),
            api_key: api_key.to_owned(),
        }
    }

    pub(super) async fn ask(&self, call: &Call, request_id: &str) -> Outcome {
        let (tool, mut arguments) = arguments(call);
        arguments["board"] = BOARD.into();
        let is_read = matches!(call, Call::Get { .. } | Call::List { .. });
        if !is_read {
            arguments["request_id"] = request_id.into();
        }
        match self.post(tool, &arguments).await {
            Ok((200, body)) => Outcome::Done(answer(call, &body)),
            Ok((status, body)) => refusal(status, &body),
            Err(error) => super::reason::unknown(format!("{error:?}")),
        }
    }

    async fn post(&self, tool: &str, arguments: &Value) -> reqwest::Result<(u16, Value)> {
        let url = format!("{}/mcp/tools/{tool}", self.url);
        let request = self.http.post(url).json(arguments);
        let response = request.bearer_auth(&self.api_key).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// What changes, as server-sent events; `query` says what of it, `after`
    /// from where on.
    pub(super) async fn events(
        &self,
        query: &str,
        after: Position,
    ) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}/events?board={BOARD}&{query}", self.url);
        let id = format!("board:{BOARD}:{after}");
        let request = self.http.get(url).bearer_auth(&self.api_key);
        let response = request.header("last-event-id", id).send().await?;
        response.error_for_status()
    }
}

/// What a refusal says: `UNAVAILABLE` and the like are repeated.
fn refusal(status: u16, body: &Value) -> Outcome {
    super::reason::outcome(text(&body["reason"]), || {
        format!("{status} {}", body["detail"])
    })
}

fn arguments(call: &Call) -> (&'static str, Value) {
    match call {
        Call::Get { key } => ("blackboard_read", json!({"key": key})),
        Call::Put {
            key,
            value,
            if_revision,
            if_lock,
            ttl,
        } => {
            let mut arguments = json!({"key": key, "value": parsed(value)});
            conditions(&mut arguments, *if_revision, if_lock.as_ref());
            if let Some(ttl) = ttl {
                arguments["ttl_seconds"] = ttl.as_secs().into();
            }
            ("blackboard_write", arguments)
        }
        Call::Delete {
            key,
            if_revision,
            if_lock,
        } => {
            let mut arguments = json!({"key": key});
            conditions(&mut arguments, *if_revision, if_lock.as_ref());
            ("blackboard_delete", arguments)
        }
        Call::List { prefix, .. } => ("blackboard_list", json!({"prefix": prefix, "limit": 1000})),
        Call::Transact {
            compare,
            then,
            otherwise,
        } => {
            let compare: Vec<Value> = compare.iter().map(comparison).collect();
            let [then, otherwise] =
                [then, otherwise].map(|steps| steps.iter().map(step).collect::<Vec<_>>());
            (
                "blackboard_transaction",
                json!({"compare": compare, "then": then, "else": otherwise}),
            )
        }
        Call::Lock {
            act,
            key,
            ttl,
            fencing_revision,
        } => {
            let mut arguments = json!({"key": key});
            if *act != Act::Release {
                arguments["ttl_seconds"] = ttl.as_secs().into();
            }
            if let Some(fencing) = fencing_revision {
                arguments["fencing_revision"] = (*fencing).into();
            }
            let tool = match act {
                Act::Acquire => "lock_acquire",
                Act::Renew => "lock_renew",
                Act::Release => "lock_release",
            };
            (tool, arguments)
        }
    }
}

fn conditions(arguments: &mut Value, if_revision: Option<u64>, if_lock: Option<&LockHeld>) {
    if let Some(revision) = if_revision {
        arguments["if_revision"] = revision.into();
    }
    if let Some(lock) = if_lock {
        arguments["if_lock"] = json!({"key": lock.key, "fencing_revision": lock.fencing_revision});
    }
}

fn comparison(compare: &Compare) -> Value {
    let key = &compare.key;
    match &compare.condition {
        Condition::Revision(revision) => json!({"key": key, "revision": revision}),
        Condition::Held(fencing) => json!({"key": key, "fencing_revision": fencing}),
        Condition::Value(value) => json!({"key": key, "value": parsed(value)}),
        Condition::Exists(exists) => json!({"key": key, "exists": exists}),
    }
}

fn step(step: &Step) -> Value {
    let key = &step.key;
    match &step.what {
        Do::Put(value) => json!({"op": "put", "key": key, "value": parsed(value)}),
        Do::Delete => json!({"op": "delete", "key": key}),
        Do::Get => json!({"op": "get", "key": key}),
    }
}

fn parsed(value: &str) -> Value {
    serde_json::from_str(value).unwrap()
}

fn answer(call: &Call, body: &Value) -> Answer {
    match call {
        Call::Get { .. } => Answer::Found {
            entry: entry(body),
            position: position(body, "board_revision"),
        },
        Call::Put { .. } => Answer::Written {
            position: position(body, "revision"),
            previous_revision: number(&body["previous_revision"]),
        },
        Call::Delete { .. } => Answer::Deleted {
            deleted: body["deleted"] == true,
            position: position(body, "revision"),
            previous_revision: number(&body["previous_revision"]),
        },
        Call::List { .. } => Answer::Listed {
            entries: items(&body["entries"]).iter().map(entry).collect(),
            more: body["next_cursor"].is_string(),
            position: position(body, "revision"),
        },
        Call::Transact {
            then, otherwise, ..
        } => {
            let succeeded = body["succeeded"] == true;
            let steps = if succeeded { then } else { otherwise };
            let results = steps.iter().zip(items(&body["results"]));
            let result = |(step, told): (&Step, &Value)| match step.what {
                Do::Get => {
                    StepResult::Got(told["entry"].is_object().then(|| entry(&told["entry"])))
                }
                Do::Put(_) | Do::Delete => StepResult::Changed(number(&told["previous_revision"])),
            };
            Answer::Transacted {
                succeeded,
                results: results.map(result).collect(),
                position: position(body, "revision"),
            }
        }
        Call::Lock { .. } => Answer::Locked {
            held: body["held"] == true,
            fencing_revision: number(&body["fencing_revision"]),
            holder: agent(text(&body["holder"])),
            position: position(body, "revision"),
        },
    }
}

/// As tools and events tell it.
pub(super) fn entry(told: &Value) -> Entry {
    let is_lock = told["is_lock"] == true;
    Entry {
        key: text(&told["key"]).to_owned(),
        value: told.get("value").filter(|_| !is_lock).map(Value::to_string),
        revision: number(&told["revision"]),
        created_revision: number(&told["created_revision"]),
        writer: agent(text(&told["writer"])),
        is_lock,
    }
}

fn position(body: &Value, revision: &str) -> Position {
    Position {
        epoch: number(&body["epoch"]),
        revision: number(&body[revision]),
    }
}

/// The agent's id alone.
pub(super) fn agent(name: &str) -> String {
    name.strip_prefix("agent:").unwrap_or(name).to_owned()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
